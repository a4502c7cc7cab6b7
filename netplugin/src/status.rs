//! What operators are told and can ask for.

use std::sync::Arc;
use std::time::Duration;

use dockline_admin::net::{NetworkList, PortList, SetRate};
use dockline_admin::{Health, Part, Status, Verb};
use dockline_daemon::{Admin, AdminError, Context, carry_out};
use dockline_net_core::Endpoint;
use dockline_ovsdb::Datapath;
use dockline_plugin_specs::route::chain;
use tokio::time::Instant;

use crate::inventory::Inventory;
use crate::networks::Networks;
use crate::switch::Switch;

/// A status is answered at once; what is not known by then is down.
const AT_ONCE: Duration = Duration::from_millis(500);

/// The status of this daemon.
#[derive(Debug)]
pub(crate) struct NetStatus {
    context: Context,
    networks: Arc<Networks>,
    switch: Arc<Switch>,
    inventory: Inventory,
}

impl NetStatus {
    /// The status of these networks on this switch.
    pub(crate) fn new(context: Context, networks: Arc<Networks>, switch: Arc<Switch>) -> Self {
        let host = context.config.host.clone();
        let inventory = Inventory::new(host, Arc::clone(&networks), Arc::clone(&switch));
        Self { context, networks, switch, inventory }
    }

    async fn datapath(&self) -> Part {
        let role = "datapath".to_owned();
        match self.switch.datapath(Instant::now() + AT_ONCE).await {
            Ok(Datapath::Kernel) => Part { role, what: "kernel".to_owned(), health: Health::Ok },
            Ok(userspace) => {
                let health = Health::Degraded(userspace.to_string());
                Part { role, what: "userspace (netdev)".to_owned(), health }
            }
            Err(error) => {
                Part { role, what: "unknown".to_owned(), health: Health::Down(chain(&error)) }
            }
        }
    }
}

impl Admin for NetStatus {
    async fn status(&self) -> Status {
        let seen = self.switch.look(|picture| {
            let version = picture.root().and_then(|root| root.ovs_version.clone());
            let ours =
                picture.ports().filter(|(_, port)| port.external_ids.contains_key(Endpoint::MARK));
            (version, ours.count() as u64)
        });
        let down = || Health::Down("ovsdb-server does not answer: is it running?".to_owned());
        let health = if seen.is_some() { Health::Ok } else { down() };
        let (version, endpoints) = seen.unwrap_or_default();
        let version = version.map_or_else(String::new, |version| format!(" {version}"));
        let what = format!("Open vSwitch{version}, bridge {}", self.switch.bridge());
        let switch = Part { role: "switch".to_owned(), what, health };

        let networks = self.networks.count().await;
        let health = match &networks {
            Ok(_) => Health::Ok,
            Err(error) => Health::Down(chain(error)),
        };
        let what = format!("embedded {}", self.networks.path().display());
        let store = Part { role: "store".to_owned(), what, health };
        let counts = [("networks", networks.unwrap_or(0) as u64), ("endpoints", endpoints)];
        self.context.status(vec![store, switch, self.datapath().await], counts)
    }

    async fn call(&self, verb: &str, body: &[u8]) -> Result<Vec<u8>, AdminError> {
        let inventory = &self.inventory;
        match verb {
            NetworkList::NAME => {
                carry_out(body, async |NetworkList {}| inventory.networks().await).await
            }
            PortList::NAME => carry_out(body, async |PortList {}| inventory.ports().await).await,
            SetRate::NAME => carry_out(body, async |set| inventory.set_rate(set).await).await,
            other => Err(AdminError::Unknown(other.to_owned())),
        }
    }

    async fn metrics(&self) -> Option<String> {
        self.inventory.metrics().await
    }
}
