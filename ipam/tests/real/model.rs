//! Random requests, releases and restarts beside a model too simple to be wrong.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::support::{Host, container, embedded, named};
use dockline_ipam::IpamError;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

const SUBNET: &str = "10.0.0.0/28";
const RANGE: &str = "10.0.0.8/29";

#[derive(Debug, Clone, Copy)]
enum Step {
    Pool { ranged: bool },
    DropPool,
    Next { ranged: bool },
    Named(u8),
    Gateway(Option<u8>),
    Auxiliary(u8),
    Release(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<bool>().prop_map(|ranged| Step::Pool { ranged }),
        1 => Just(Step::DropPool),
        6 => any::<bool>().prop_map(|ranged| Step::Next { ranged }),
        2 => (0..18u8).prop_map(Step::Named),
        2 => proptest::option::of(1..15u8).prop_map(Step::Gateway),
        1 => (1..15u8).prop_map(Step::Auxiliary),
        6 => (0..18u8).prop_map(Step::Release),
        1 => Just(Step::Restart),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Holder {
    Container,
    Gateway(u32),
    Auxiliary(u32),
}

/// What there should be.
#[derive(Debug, Default)]
struct Model {
    references: u32,
    exists: bool,
    held: BTreeMap<u8, Holder>,
}

impl Model {
    fn settle(&mut self) {
        self.exists &= self.references > 0 || !self.held.is_empty();
    }

    fn may_have(&self, at: u8, wanted: Holder) -> bool {
        self.exists
            && (1..15).contains(&at)
            && match (self.held.get(&at), wanted) {
                (None, _)
                | (Some(Holder::Gateway(_)), Holder::Gateway(_))
                | (Some(Holder::Auxiliary(_)), Holder::Auxiliary(_)) => true,
                (Some(_), _) => false,
            }
    }

    fn hold(&mut self, at: u8, wanted: Holder) {
        let holder = match (self.held.get(&at), wanted) {
            (Some(Holder::Gateway(count)), _) => Holder::Gateway(count + 1),
            (Some(Holder::Auxiliary(count)), _) => Holder::Auxiliary(count + 1),
            (_, wanted) => wanted,
        };
        self.held.insert(at, holder);
    }

    fn release(&mut self, at: u8) {
        match self.held.get(&at).copied() {
            Some(Holder::Gateway(count)) if count > 1 => {
                self.held.insert(at, Holder::Gateway(count - 1));
            }
            Some(Holder::Auxiliary(count)) if count > 1 => {
                self.held.insert(at, Holder::Auxiliary(count - 1));
            }
            _ => {
                self.held.remove(&at);
            }
        }
        self.settle();
    }
}

fn address(at: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, at).into()
}

fn last(address: IpAddr) -> u8 {
    let IpAddr::V4(address) = address else { panic!("{address} is not of the pool") };
    address.octets()[3]
}

fn pool_id(ranged: bool) -> String {
    let range = if ranged { format!("/{RANGE}") } else { String::new() };
    format!("dockline/{SUBNET}{range}")
}

/// Does one step in both worlds and compares what each says.
async fn run(step: Step, host: &Host, model: &mut Model) -> Result<(), TestCaseError> {
    match step {
        Step::Pool { ranged } => {
            let mut request = named(SUBNET);
            request.sub_pool = ranged.then(|| RANGE.parse().unwrap());
            prop_assert_eq!(host.pool_with(request).await.unwrap(), pool_id(ranged));
            model.exists = true;
            model.references += 1;
        }
        Step::DropPool => {
            host.drop_pool(&pool_id(false)).await.unwrap();
            model.references = model.references.saturating_sub(1);
            model.settle();
        }
        Step::Next { ranged } => {
            let free = (if ranged { 8 } else { 1 })..15;
            let any = free
                .clone()
                .any(|at| model.may_have(at, Holder::Container) && !model.held.contains_key(&at));
            match host.address(&pool_id(ranged), None).await {
                Ok(chosen) => {
                    let at = last(chosen);
                    prop_assert!(any && free.contains(&at) && !model.held.contains_key(&at));
                    model.hold(at, Holder::Container);
                }
                Err(IpamError::Exhausted(_)) => prop_assert!(model.exists && !any),
                Err(IpamError::UnknownPool(_)) => prop_assert!(!model.exists),
                Err(other) => panic!("{other:?}"),
            }
        }
        Step::Named(at) => {
            let text = address(at).to_string();
            let request = container(&pool_id(false), Some(&text), None);
            compare(host.address_with(request).await, at, Holder::Container, model)?;
        }
        Step::Gateway(Some(at)) => {
            let text = address(at).to_string();
            let answer = host.gateway(&pool_id(true), Some(&text)).await;
            compare(answer, at, Holder::Gateway(1), model)?;
        }
        Step::Gateway(None) => match host.gateway(&pool_id(false), None).await {
            Ok(chosen) => compare(Ok(chosen), last(chosen), Holder::Gateway(1), model)?,
            Err(IpamError::Exhausted(_)) => prop_assert_eq!(model.held.len(), 14),
            Err(IpamError::UnknownPool(_)) => prop_assert!(!model.exists),
            Err(other) => panic!("{other:?}"),
        },
        Step::Auxiliary(at) => {
            let answer = host.auxiliary(&pool_id(false), &address(at).to_string()).await;
            compare(answer, at, Holder::Auxiliary(1), model)?;
        }
        Step::Release(at) => {
            host.release(&pool_id(false), address(at)).await.unwrap();
            model.release(at);
        }
        Step::Restart => unreachable!("done by the caller"),
    }
    Ok(())
}

fn compare(
    answer: Result<IpAddr, IpamError>,
    at: u8,
    wanted: Holder,
    model: &mut Model,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(answer.is_ok(), model.may_have(at, wanted), "{:?}", answer);
    if let Ok(given) = answer {
        prop_assert_eq!(given, address(at));
        model.hold(at, wanted);
    }
    Ok(())
}

#[test]
fn the_daemon_does_what_the_model_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let steps = proptest::collection::vec(step(), 1..60);
    let outcome = TestRunner::new(config).run(&steps, |steps| {
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut host = embedded(folder.path().to_owned());
            let mut model = Model::default();
            for step in steps {
                if let Step::Restart = step {
                    drop(host);
                    host = embedded(folder.path().to_owned());
                } else {
                    run(step, &host, &mut model).await?;
                }
            }
            Ok(())
        })
    });
    outcome.unwrap();
}
