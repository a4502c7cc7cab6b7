//! Port security: what a container may send, as a program for the kernel's packet filter.
//!
//! A container sends with its own MAC, IPv4 and IPv6 addresses only, and speaks in ARP and IPv6
//! neighbour discovery for itself only. The program is classic BPF (as in `tcpdump -dd`): the
//! kernel checks it when it is loaded, and needs no compiler and no privilege beyond that of
//! changing a device's filters. It looks at frames as they leave the container, headers first.
//!
//! Without any address (a network of frames only) only the MAC is held to account; on a trunk the
//! same goes for what is tagged.

use std::net::{Ipv4Addr, Ipv6Addr};

use dockline_types::MacAddr;

/// One instruction: the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How many instructions to pass over if the comparison holds.
    pub yes: u8,
    /// How many if not.
    pub no: u8,
    /// Its operand.
    pub k: u32,
}

/// What the program says of a frame it lets through: go on with the next filter
/// (`TC_ACT_UNSPEC`).
pub const PASS: u32 = u32::MAX;
/// What it says of one it does not (`TC_ACT_SHOT`).
pub const DROP: u32 = 2;

/// Who a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its MAC.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Whether it has VLANs of its own, tagged.
    pub trunk: bool,
}

// Operations.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Where the kernel keeps whether the frame's VLAN tag was taken off it (`SKF_AD_VLAN_TAG_PRESENT`).
const TAG_TAKEN_OFF: u32 = 0xffff_f000 + 48;

// Ethernet types.
const ARP: u32 = 0x0806;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const TAGGED: [u32; 2] = [0x8100, 0x88a8];

/// Extension headers behind which neighbour discovery could hide; fragments of it are not heard by
/// any system (RFC 6980).
const HIDING: [u32; 6] = [43, 51, 60, 135, 139, 140];
const HOP_BY_HOP: u32 = 0;
const ICMPV6: u32 = 58;

/// Kinds of ICMPv6 for multicast groups (RFC 2710, 3810), which alone come behind a hop-by-hop
/// header.
const GROUPS: [u32; 3] = [131, 132, 143];

/// A place in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Label(usize);

#[derive(Debug, Clone, Copy)]
enum Target {
    Next,
    Label(Label),
}

/// A program whose jumps are not counted yet.
#[derive(Debug, Default)]
struct Assembler {
    code: Vec<(u16, u32, Target, Target)>,
    places: Vec<Option<usize>>,
}

impl Assembler {
    fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    fn here(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    fn load(&mut self, size: u16, at: u32) {
        self.code.push((size, at, Target::Next, Target::Next));
    }

    fn ret(&mut self, what: u32) {
        self.code.push((RETURN, what, Target::Next, Target::Next));
    }

    fn jump(&mut self, to: Label) {
        self.code.push((JUMP, 0, Target::Label(to), Target::Next));
    }

    /// Goes to the label if what was loaded is `value`.
    fn if_equal(&mut self, value: u32, to: Label) {
        self.code.push((JUMP_EQUAL, value, Target::Label(to), Target::Next));
    }

    /// Goes to the label unless what was loaded is `value`.
    fn unless_equal(&mut self, value: u32, to: Label) {
        self.code.push((JUMP_EQUAL, value, Target::Next, Target::Label(to)));
    }

    /// Goes to the label unless these bytes stand at this place.
    fn unless_bytes(&mut self, at: u32, bytes: &[u8], to: Label) {
        let (words, rest) = bytes.as_chunks::<4>();
        let mut place = at;
        for word in words {
            self.load(LOAD_WORD, place);
            self.unless_equal(u32::from_be_bytes(*word), to);
            place += 4;
        }
        if let [high, low] = rest {
            self.load(LOAD_HALF, place);
            self.unless_equal(u32::from(u16::from_be_bytes([*high, *low])), to);
        }
    }

    fn finish(self) -> Vec<Instruction> {
        let place = |target: Target, at: usize| match target {
            Target::Next => 0,
            // Every label is placed, after the jump.
            Target::Label(label) => self.places[label.0].unwrap_or(at + 1) - at - 1,
        };
        let short = |distance: usize| u8::try_from(distance).unwrap_or(u8::MAX);
        let assembled = self.code.iter().enumerate().map(|(at, &(code, k, yes, no))| match code {
            JUMP => {
                let k = u32::try_from(place(yes, at)).unwrap_or(0);
                Instruction { code, yes: 0, no: 0, k }
            }
            _ => Instruction { code, yes: short(place(yes, at)), no: short(place(no, at)), k },
        });
        assembled.collect()
    }
}

/// The link-local address that follows from a MAC (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    let half = |high, low| u16::from_be_bytes([high, low]);
    let (third, fourth) = (half(c, 0xff), half(0xfe, d));
    Ipv6Addr::new(0xfe80, 0, 0, 0, half(a ^ 2, b), third, fourth, half(e, f))
}

impl Identity {
    /// The program that lets through what this container may send.
    pub fn program(&self) -> Vec<Instruction> {
        let mut asm = Assembler::default();
        let [pass, drop, tagged, arp, ipv4, ipv6] = std::array::from_fn(|_| asm.label());
        asm.unless_bytes(6, &self.mac.octets(), drop);
        asm.load(LOAD_WORD, TAG_TAKEN_OFF);
        asm.unless_equal(0, tagged);
        asm.load(LOAD_HALF, 12);
        TAGGED.into_iter().for_each(|kind| asm.if_equal(kind, tagged));
        if self.ipv4.is_none() && self.ipv6.is_none() {
            asm.jump(pass);
        }
        asm.if_equal(ARP, arp);
        asm.if_equal(IPV4, ipv4);
        asm.if_equal(IPV6, ipv6);
        asm.jump(drop);

        asm.here(tagged);
        asm.jump(if self.trunk { pass } else { drop });
        asm.here(arp);
        self.arp(&mut asm, pass, drop);
        asm.here(ipv4);
        if let Some(address) = self.ipv4 {
            asm.unless_bytes(26, &address.octets(), drop);
            asm.jump(pass);
        }
        asm.jump(drop);
        asm.here(ipv6);
        self.ipv6(&mut asm, pass, drop);
        asm.here(pass);
        asm.ret(PASS);
        asm.here(drop);
        asm.ret(DROP);
        asm.finish()
    }

    /// For Ethernet and IPv4, with its own MAC, and its own address or none yet (a probe, RFC 5227).
    fn arp(&self, asm: &mut Assembler, pass: Label, drop: Label) {
        if let Some(address) = self.ipv4 {
            asm.unless_bytes(14, &[0, 1, 8, 0, 6, 4], drop);
            asm.unless_bytes(22, &self.mac.octets(), drop);
            asm.load(LOAD_WORD, 28);
            asm.if_equal(u32::from(address), pass);
            asm.if_equal(0, pass);
        }
        asm.jump(drop);
    }

    fn ipv6(&self, asm: &mut Assembler, pass: Label, drop: Label) {
        let Some(address) = self.ipv6 else { return asm.jump(drop) };
        let own = [address, link_local(self.mac)];
        let [known, nowhere, icmp, hop] = std::array::from_fn(|_| asm.label());
        for address in own {
            let other = asm.label();
            asm.unless_bytes(22, &address.octets(), other);
            asm.jump(known);
            asm.here(other);
        }
        // From nowhere only what comes before an address: its probe, and reports of groups.
        asm.unless_bytes(22, &[0; 16], drop);
        asm.jump(nowhere);

        asm.here(known);
        asm.load(LOAD_BYTE, 20);
        HIDING.into_iter().for_each(|header| asm.if_equal(header, drop));
        asm.if_equal(HOP_BY_HOP, hop);
        asm.if_equal(ICMPV6, icmp);
        asm.jump(pass);

        asm.here(nowhere);
        asm.load(LOAD_BYTE, 20);
        asm.if_equal(HOP_BY_HOP, hop);
        asm.unless_equal(ICMPV6, drop);
        asm.load(LOAD_BYTE, 54);
        asm.if_equal(GROUPS[2], pass);
        asm.unless_equal(135, drop);
        self.linked(asm, 24, 1, pass, drop);

        asm.here(hop);
        // One of eight bytes, and then the report of a group.
        asm.unless_bytes(54, &[58, 0], drop);
        asm.load(LOAD_BYTE, 62);
        GROUPS.into_iter().for_each(|kind| asm.if_equal(kind, pass));
        asm.jump(drop);

        asm.here(icmp);
        let [solicits, advertises, asks] = std::array::from_fn(|_| asm.label());
        asm.load(LOAD_BYTE, 54);
        asm.if_equal(133, asks);
        asm.if_equal(135, solicits);
        asm.if_equal(136, advertises);
        // A container is no router.
        asm.if_equal(134, drop);
        asm.if_equal(137, drop);
        asm.jump(pass);
        asm.here(asks);
        self.linked(asm, 8, 1, pass, drop);
        asm.here(solicits);
        self.linked(asm, 24, 1, pass, drop);
        asm.here(advertises);
        let mine = asm.label();
        for address in own {
            let other = asm.label();
            asm.unless_bytes(62, &address.octets(), other);
            asm.jump(mine);
            asm.here(other);
        }
        asm.jump(drop);
        asm.here(mine);
        self.linked(asm, 24, 2, pass, drop);
    }

    /// A message of neighbour discovery of this length without options, or with one: its own MAC,
    /// or a nonce (RFC 7527).
    fn linked(&self, asm: &mut Assembler, length: u32, option: u32, pass: Label, drop: Label) {
        let at = 54 + length;
        let own = asm.label();
        asm.load(LOAD_HALF, 18);
        asm.if_equal(length, pass);
        asm.unless_equal(length + 8, drop);
        asm.load(LOAD_BYTE, at);
        asm.if_equal(option, own);
        asm.if_equal(14, pass);
        asm.jump(drop);
        asm.here(own);
        asm.unless_bytes(at + 2, &self.mac.octets(), drop);
        asm.jump(pass);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program over a frame as the kernel would; out of bounds is what it says to drop.
    fn run(program: &[Instruction], frame: &[u8], tag_taken_off: bool) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, yes, no, k } = program[at];
            at += 1;
            let from = k as usize;
            let bytes = |count| frame.get(from..from + count);
            match code {
                LOAD_WORD if k == TAG_TAKEN_OFF => loaded = u32::from(tag_taken_off),
                LOAD_WORD | LOAD_HALF | LOAD_BYTE => {
                    let count = [4, 2, 1][usize::from((code - LOAD_WORD) / 8)];
                    // The kernel ends a program that reads beyond the frame with 0.
                    let Some(bytes) = bytes(count) else { return 0 };
                    loaded = bytes.iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
                }
                JUMP => at += k as usize,
                JUMP_EQUAL => at += usize::from(if loaded == k { yes } else { no }),
                RETURN => return k,
                other => panic!("the kernel knows no {other:#x}"),
            }
        }
    }

    fn mac() -> MacAddr {
        "02:42:0a:64:00:02".parse().unwrap()
    }

    fn identity() -> Identity {
        let (ipv4, ipv6) = ("10.100.0.2".parse().ok(), "2001:db8::2".parse().ok());
        Identity { mac: mac(), ipv4, ipv6, trunk: false }
    }

    fn passes(identity: Identity, frame: &[u8]) -> bool {
        run(&identity.program(), frame, false) == PASS
    }

    fn frame(from: MacAddr, kind: u16, payload: &[&[u8]]) -> Vec<u8> {
        let kind = kind.to_be_bytes();
        let mut frame = [&[0xff; 6][..], &from.octets(), &kind, &payload.concat()].concat();
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn other_mac() -> MacAddr {
        "02:00:00:00:00:99".parse().unwrap()
    }

    fn arp(sender: MacAddr, address: &str) -> Vec<u8> {
        let address: Ipv4Addr = address.parse().unwrap();
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        frame(mac(), 0x0806, &[&head, &sender.octets(), &address.octets(), &[0; 10]])
    }

    fn ipv4(from: &str) -> Vec<u8> {
        let from: Ipv4Addr = from.parse().unwrap();
        frame(mac(), 0x0800, &[&[0x45, 0, 0, 40], &[0; 8], &from.octets(), &[10, 0, 0, 1]])
    }

    fn ipv6(from: &str, header: u8, payload: &[u8]) -> Vec<u8> {
        let from: Ipv6Addr = from.parse().unwrap();
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [0x60, 0, 0, 0, length[0], length[1], header, 255];
        frame(mac(), 0x86dd, &[&head, &from.octets(), &[0xff; 16], payload])
    }

    fn neighbour(kind: u8, target: &str, option: u8, link: MacAddr) -> Vec<u8> {
        let target: Ipv6Addr = target.parse().unwrap();
        [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[option, 1], &link.octets()].concat()
    }

    #[test]
    fn a_program_is_short_enough_for_its_jumps() {
        let program = identity().program();
        assert!(program.len() < 200, "{}", program.len());
        for (at, instruction) in program.iter().enumerate() {
            let Instruction { yes, no, .. } = *instruction;
            let far = usize::from(yes.max(no));
            assert!(at + far < program.len(), "{at}: {instruction:?} leads nowhere");
        }
    }

    #[test]
    fn its_own_mac_and_addresses_pass_and_no_others() {
        assert!(passes(identity(), &ipv4("10.100.0.2")));
        assert!(!passes(identity(), &ipv4("10.100.0.3")));
        assert!(!passes(identity(), &ipv4("0.0.0.0")));
        let mut spoofed = ipv4("10.100.0.2");
        spoofed[6..12].copy_from_slice(&other_mac().octets());
        assert!(!passes(identity(), &spoofed));
        for from in ["2001:db8::2", "fe80::42:aff:fe64:2"] {
            assert!(passes(identity(), &ipv6(from, 6, &[0; 20])), "{from}");
        }
        for from in ["2001:db8::3", "fe80::1", "::"] {
            assert!(!passes(identity(), &ipv6(from, 6, &[0; 20])), "{from}");
        }
        assert!(!passes(identity(), &frame(mac(), 0x88cc, &[&[0; 46]])), "not its to speak");
    }

    #[test]
    fn in_arp_it_speaks_for_itself_only_and_may_probe() {
        assert!(passes(identity(), &arp(mac(), "10.100.0.2")));
        assert!(passes(identity(), &arp(mac(), "0.0.0.0")));
        assert!(!passes(identity(), &arp(mac(), "10.100.0.1")));
        assert!(!passes(identity(), &arp(other_mac(), "10.100.0.2")));
    }

    #[test]
    fn in_neighbour_discovery_it_speaks_for_itself_only() {
        let (own, router) = ("2001:db8::2", "2001:db8::1");
        let sent = |from, payload: &[u8]| passes(identity(), &ipv6(from, 58, payload));
        assert!(sent(own, &neighbour(136, own, 2, mac())));
        assert!(sent(own, &neighbour(136, "fe80::42:aff:fe64:2", 2, mac())));
        assert!(!sent(own, &neighbour(136, router, 2, mac())), "another's address");
        assert!(!sent(own, &neighbour(136, own, 2, other_mac())), "another's MAC");
        assert!(!sent(own, &neighbour(136, own, 1, mac())), "another option");
        assert!(sent(own, &neighbour(135, router, 1, mac())));
        assert!(!sent(own, &neighbour(135, router, 1, other_mac())));
        assert!(sent("::", &neighbour(135, own, 14, other_mac())), "its probe, with a nonce");
        assert!(!sent("::", &neighbour(136, own, 2, mac())));
        assert!(sent(own, &[128, 0, 0, 0]), "a ping");
        for kind in [134, 137] {
            assert!(!sent(own, &neighbour(kind, own, 1, mac())), "a router's {kind}");
        }
        let mut hidden = vec![58, 0, 1, 4, 0, 0, 0, 0];
        hidden.extend(neighbour(136, router, 2, mac()));
        for header in [0, 43, 60, 135] {
            assert!(!passes(identity(), &ipv6(own, header, &hidden)), "hidden behind {header}");
        }
        let report = [58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0];
        for from in [own, "::"] {
            assert!(passes(identity(), &ipv6(from, 0, &report)), "a report of groups");
        }
    }

    #[test]
    fn tagged_frames_are_a_trunks_only() {
        let trunk = Identity { trunk: true, ..identity() };
        let tagged = frame(mac(), 0x8100, &[&[0, 20, 8, 0], &[0; 44]]);
        assert!(passes(trunk, &tagged) && !passes(identity(), &tagged));
        let taken_off = ipv4("192.0.2.1");
        assert_eq!(run(&trunk.program(), &taken_off, true), PASS);
        assert_eq!(run(&identity().program(), &taken_off, true), DROP);
        assert!(!passes(trunk, &taken_off), "untagged it is the network's own VLAN");
    }

    #[test]
    fn what_has_no_address_of_a_family_does_not_speak_it() {
        let only_ipv4 = Identity { ipv6: None, ..identity() };
        assert!(!passes(only_ipv4, &ipv6("fe80::42:aff:fe64:2", 6, &[0; 20])));
        let only_ipv6 = Identity { ipv4: None, ..identity() };
        assert!(!passes(only_ipv6, &ipv4("10.100.0.2")));
        assert!(!passes(only_ipv6, &arp(mac(), "10.100.0.2")));
        let frames_only = Identity { ipv4: None, ipv6: None, ..identity() };
        assert!(passes(frames_only, &ipv4("10.9.9.9")));
        let mut spoofed = ipv4("10.9.9.9");
        spoofed[6..12].copy_from_slice(&other_mac().octets());
        assert!(!passes(frames_only, &spoofed));
    }

    #[test]
    fn frames_cut_short_do_not_pass() {
        let whole = ipv6("2001:db8::2", 58, &neighbour(136, "2001:db8::2", 2, mac()));
        for length in 0..84 {
            assert!(!passes(identity(), &whole[..length]), "{length} bytes");
        }
    }
}
