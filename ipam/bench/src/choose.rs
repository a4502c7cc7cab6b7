//! Choosing an address in a pool that is full of holes.

use std::time::Instant;

use dockline_ipam_core::{Picture, Subnet};
use dockline_types::PoolCidr;

/// How many addresses are chosen.
const CHOICES: u32 = 20_000;

/// A number that jumps about, the same in each run.
fn scattered(at: u32) -> u32 {
    at.wrapping_mul(2_654_435_761).rotate_left(13) ^ at.wrapping_mul(40_503)
}

/// Microseconds for one choice with 65 thousand addresses held in a /15, of which every second was
/// given back at random, each choice being told back as held and another given back.
pub(crate) fn fragmented() -> f64 {
    let Ok(Ok(subnet)) = "10.0.0.0/15".parse::<PoolCidr>().map(Subnet::try_from) else {
        return f64::NAN;
    };
    let mut pool = Picture::new(subnet);
    let mut held: Vec<_> = (0..131_000).filter_map(|_| pool.choose(None, 0, 0).ok()).collect();
    for address in &held {
        pool.settle(*address, 1);
        pool.hold(*address);
    }
    pool.told_up_to(1);
    for at in 0..65_500 {
        let address = held.swap_remove(scattered(at) as usize % held.len());
        pool.release(address, None);
    }
    let mut spent = std::time::Duration::ZERO;
    for at in 0..CHOICES {
        let started = Instant::now();
        let chosen = pool.choose(None, 0, u64::from(at));
        spent += started.elapsed();
        let Ok(chosen) = chosen else { return f64::NAN };
        pool.settle(chosen, 2);
        pool.hold(chosen);
        pool.told_up_to(2);
        let place = scattered(at) as usize % held.len();
        pool.release(std::mem::replace(&mut held[place], chosen), None);
    }
    spent.as_secs_f64() * 1e6 / f64::from(CHOICES)
}
