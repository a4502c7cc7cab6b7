//! A guard on a device: a program of the kernel's packet filter that looks at all that arrives
//! before anything else does, and drops what it does not let through.

use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage, TcOption};

use crate::wire::{EVERY_PROTOCOL, INGRESS};
use crate::{LinkError, Links};

/// The kernel's word for it.
const KIND: &str = "bpf";

/// Before the filter that redirects, whose priority the kernel chooses (0xc000).
const FIRST: u32 = 1;

// Attributes of a program as a filter (linux/pkt_cls.h).
const LENGTH: u16 = 4;
const INSTRUCTIONS: u16 = 5;
const NAME: u16 = 7;
const FLAGS: u16 = 8;

/// `TCA_BPF_FLAG_ACT_DIRECT`: what the program returns is done.
const DIRECT: u32 = 1;

/// What `tc filter show` calls it.
const SHOWN: &[u8] = b"dockline-identity\0";

/// One instruction of classic BPF: the kernel's `struct sock_filter`.
pub type SockFilter = (u16, u8, u8, u32);

impl Links {
    /// Puts a guard on the device with this index, which must have an ingress queue and no guard
    /// yet. The kernel refuses a program that could read out of bounds or not end.
    pub async fn guard(&self, index: u32, program: &[SockFilter]) -> Result<(), LinkError> {
        let instructions = program.iter().flat_map(|&(code, yes, no, k)| {
            let ([a, b], [c, d, e, f]) = (code.to_ne_bytes(), k.to_ne_bytes());
            [a, b, yes, no, c, d, e, f]
        });
        let length = u16::try_from(program.len()).unwrap_or(u16::MAX);
        let option = |kind, value| TcOption::Other(DefaultNla::new(kind, value));
        let options = vec![
            option(LENGTH, length.to_ne_bytes().to_vec()),
            option(INSTRUCTIONS, instructions.collect()),
            option(NAME, SHOWN.to_vec()),
            option(FLAGS, DIRECT.to_ne_bytes().to_vec()),
        ];
        let mut message = TcMessage::with_index(index.cast_signed());
        message.header.parent = INGRESS.into();
        message.header.info = FIRST << 16 | u32::from(EVERY_PROTOCOL);
        message.attributes.push(TcAttribute::Kind(KIND.to_owned()));
        message.attributes.push(TcAttribute::Options(options));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewTrafficFilter(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let what = || format!("guard device {index}");
        self.done(&index.to_string(), what, self.sent(request)).await
    }
}
