//! The daemon as a process, over its sockets.
