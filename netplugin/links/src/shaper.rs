//! Limits on what a device sends: the kernel's token bucket (sch_tbf) as its root queue.
//!
//! It delays what is too much instead of dropping it, up to the length of its queue: TCP then finds
//! the rate and keeps it. The kernel's policers drop at once, and TCP collapses behind them.

use std::collections::BTreeMap;

use nix::errno::Errno;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, Nla,
    NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2};

use crate::{LinkError, Links};

/// The kernel's word for it.
const KIND: &str = "tbf";

/// The handle of our queues (`d0c0:`): a root queue that bears another is somebody else's.
const HANDLE: TcHandle = TcHandle { major: 0xd0c0, minor: 0 };

// Attributes of a token bucket (linux/pkt_sched.h).
const PARMS: u16 = 1;
const RATE64: u16 = 4;
const BURST: u16 = 6;

/// `TC_LINKLAYER_ETHERNET`: the kernel needs no table of transmission times.
const ETHERNET: u8 = 1;

/// A limit on what a device sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes a second, Ethernet headers included.
    pub bytes_per_s: u64,
    /// Bytes at once.
    pub burst: u32,
    /// Bytes that may wait.
    pub queue: u32,
}

/// A limit as the kernel tells it; the burst it does not tell exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shaped {
    /// Bytes a second.
    pub bytes_per_s: u64,
    /// Bytes that may wait.
    pub queue: u32,
    /// Packets dropped because its queue was full.
    pub dropped: u64,
}

impl Shape {
    fn options(&self) -> Vec<TcOption> {
        let rate = u32::try_from(self.bytes_per_s).unwrap_or(u32::MAX);
        // tc_tbf_qopt: the rate, the peak rate (none), the queue, the buffer in ticks (replaced by
        // BURST), the MTU (of the peak rate).
        let mut parms = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
        parms.extend(rate.to_ne_bytes());
        parms.extend([0; 12]);
        parms.extend(self.queue.to_ne_bytes());
        parms.extend([0; 8]);
        let attribute = |kind, value| TcOption::Other(DefaultNla::new(kind, value));
        vec![
            attribute(PARMS, parms),
            attribute(RATE64, self.bytes_per_s.to_ne_bytes().to_vec()),
            attribute(BURST, self.burst.to_ne_bytes().to_vec()),
        ]
    }
}

impl Links {
    /// Limits what the device with this index sends, at once and without losing what waits; `None`
    /// lifts the limit.
    pub async fn shape(&self, index: u32, shape: Option<Shape>) -> Result<(), LinkError> {
        let mut message = TcMessage::with_index(index.cast_signed());
        message.header.parent = TcHandle::ROOT;
        message.header.handle = HANDLE;
        let (request, flags) = match shape {
            Some(shape) => {
                message.attributes.push(TcAttribute::Kind(KIND.to_owned()));
                message.attributes.push(TcAttribute::Options(shape.options()));
                let request = RouteNetlinkMessage::NewQueueDiscipline(message);
                (request, NLM_F_CREATE | NLM_F_REPLACE)
            }
            None => (RouteNetlinkMessage::DelQueueDiscipline(message), 0),
        };
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let what = || format!("limit what device {index} sends");
        match self.done(&index.to_string(), what, self.sent(request)).await {
            Err(LinkError::Kernel { source, .. }) if shape.is_none() && is_no_queue(&source) => {
                Ok(())
            }
            done => done,
        }
    }

    /// The limits there are, by the device's index.
    pub async fn shaped(&self) -> Result<BTreeMap<u32, Shaped>, LinkError> {
        let answers = self.handle.qdisc().get().execute();
        let what = || "list the limits".to_owned();
        let queues = self.collected("any", what, answers, |message| Some(message.clone())).await?;
        Ok(queues.iter().filter_map(read).collect())
    }
}

/// What the kernel says when there is no queue of ours to delete.
fn is_no_queue(error: &std::io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw);
    matches!(error, Some(Errno::ENOENT | Errno::EINVAL))
}

fn read(message: &TcMessage) -> Option<(u32, Shaped)> {
    let ours = message.header.parent == TcHandle::ROOT && message.header.handle == HANDLE;
    let (mut shaped, mut is_bucket) = (Shaped::default(), false);
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => is_bucket = kind == KIND,
            TcAttribute::Options(options) => options.iter().for_each(|it| shaped.take(it)),
            TcAttribute::Stats2(stats) => {
                for stat in stats {
                    if let TcStats2::Queue(queue) = stat {
                        shaped.dropped = u64::from(queue.drops);
                    }
                }
            }
            _ => {}
        }
    }
    let index = message.header.index.cast_unsigned();
    (ours && is_bucket).then_some((index, shaped))
}

impl Shaped {
    /// Whether this is what was asked for.
    pub fn is(&self, shape: &Shape) -> bool {
        (self.bytes_per_s, self.queue) == (shape.bytes_per_s, shape.queue)
    }

    /// The library keeps the options of this kind as one attribute, with the others inside.
    fn take(&mut self, option: &TcOption) {
        let TcOption::Other(nest) = option else { return };
        let mut nested = vec![0; nest.value_len()];
        nest.emit_value(&mut nested);
        for attribute in NlasIterator::new(&nested).flatten() {
            let value = attribute.value();
            let u32_at = |at: usize| value.get(at..at + 4).and_then(|four| four.try_into().ok());
            match attribute.kind() {
                PARMS => {
                    let rate = u32_at(8).map_or(0, u32::from_ne_bytes);
                    self.bytes_per_s = self.bytes_per_s.max(u64::from(rate));
                    self.queue = u32_at(24).map_or(0, u32::from_ne_bytes);
                }
                // Only there when 32 bits do not do.
                RATE64 => {
                    let all = value.try_into();
                    self.bytes_per_s = all.map_or(self.bytes_per_s, u64::from_ne_bytes);
                }
                _ => {}
            }
        }
    }
}
