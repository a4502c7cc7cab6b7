//! Made by bindgen from lvm2cmd.h: see tests/drift.rs.

pub const LVM2_LOG_SUPPRESS: i32 = 0;
pub const LVM2_LOG_FATAL: i32 = 2;
pub const LVM2_LOG_ERROR: i32 = 3;
pub const LVM2_LOG_PRINT: i32 = 4;
pub const LVM2_LOG_VERBOSE: i32 = 5;
pub const LVM2_LOG_VERY_VERBOSE: i32 = 6;
pub const LVM2_LOG_DEBUG: i32 = 7;
pub const LVM2_COMMAND_SUCCEEDED: i32 = 1;
pub const LVM2_NO_SUCH_COMMAND: i32 = 2;
pub const LVM2_INVALID_PARAMETERS: i32 = 3;
pub const LVM2_INIT_FAILED: i32 = 4;
pub const LVM2_PROCESSING_FAILED: i32 = 5;
pub type lvm2_log_fn_t = ::std::option::Option<
    unsafe extern "C" fn(
        level: ::std::os::raw::c_int,
        file: *const ::std::os::raw::c_char,
        line: ::std::os::raw::c_int,
        dm_errno: ::std::os::raw::c_int,
        message: *const ::std::os::raw::c_char,
    ),
>;
unsafe extern "C" {
    pub fn lvm2_log_fn(log_fn: lvm2_log_fn_t);
}
unsafe extern "C" {
    pub fn lvm2_init() -> *mut ::std::os::raw::c_void;
}
unsafe extern "C" {
    pub fn lvm2_init_threaded() -> *mut ::std::os::raw::c_void;
}
unsafe extern "C" {
    pub fn lvm2_disable_dmeventd_monitoring(handle: *mut ::std::os::raw::c_void);
}
unsafe extern "C" {
    pub fn lvm2_log_level(handle: *mut ::std::os::raw::c_void, level: ::std::os::raw::c_int);
}
unsafe extern "C" {
    pub fn lvm2_run(
        handle: *mut ::std::os::raw::c_void,
        cmdline: *const ::std::os::raw::c_char,
    ) -> ::std::os::raw::c_int;
}
unsafe extern "C" {
    pub fn lvm2_exit(handle: *mut ::std::os::raw::c_void);
}
