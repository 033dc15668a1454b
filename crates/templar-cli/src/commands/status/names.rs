//! Names for the keys in a run: the role of each, as the configuration and the slots tell it.

use templar_manifest::{Genesis, PublicKey};
use templar_query::participation::{Awaited, AwaitedAct};
use templar_query::status::MemberView;

/// Names the members of a run. Validators are numbered from 1 in the order of the configuration, miners by slot.
pub(super) struct Names<'a> {
    pub(super) genesis: &'a Genesis,
    pub(super) members: &'a [MemberView],
    /// The key of this home; `None` if it is not here, or not for this user.
    pub(super) me: Option<PublicKey>,
}

impl Names<'_> {
    /// The number of a validator, from 1.
    fn validator(&self, key: &PublicKey) -> Option<String> {
        let place = self.genesis.validators.iter().position(|validator| validator.key == *key)?;
        Some(format!("validator {}", place + 1))
    }

    /// The slot of a miner, by its owner key.
    fn miner(&self, owner: &PublicKey) -> Option<String> {
        let member = self.members.iter().find(|member| member.owner == *owner)?;
        Some(format!("miner in slot {}", member.slot))
    }

    /// This home's roles and key in words.
    pub(super) fn this_home(&self) -> String {
        let Some(me) = &self.me else { return "no key here".to_owned() };
        format!("{}, key {}", self.roles_of_node(me), me.short())
    }

    /// The roles of a node key in words.
    fn roles_of_node(&self, me: &PublicKey) -> String {
        let slot = self.members.iter().find(|member| member.node == *me);
        let miner = slot.map(|member| format!("miner in slot {} since window {}", member.slot, member.since));
        let roles: Vec<String> = self.validator(me).into_iter().chain(miner).collect();
        if roles.is_empty() { "no member, it only follows the run".to_owned() } else { roles.join(" and ") }
    }

    /// The roles of an account, and whether it is this home's.
    pub(super) fn roles(&self, key: &PublicKey) -> String {
        let mut roles: Vec<String> = self.validator(key).into_iter().chain(self.miner(key)).collect();
        if Some(*key) == self.me {
            roles.push("this home".to_owned());
        }
        if roles.is_empty() { "no member now".to_owned() } else { roles.join(", ") }
    }

    /// The awaited acts on one line, such as `contribution of miner in slot 3 (9a…)`.
    pub(super) fn awaited(&self, awaited: &[Awaited]) -> String {
        if awaited.is_empty() {
            return "nobody".to_owned();
        }
        let line = |one: &Awaited| {
            let name = match one.what {
                AwaitedAct::Contribution => self.miner(&one.key),
                _ => self.validator(&one.key),
            };
            let key = if Some(one.key) == self.me { "this home".to_owned() } else { one.key.short() };
            format!("{} of {} ({key})", one.what.name(), name.unwrap_or_else(|| "a member".to_owned()))
        };
        awaited.iter().map(line).collect::<Vec<_>>().join(", ")
    }
}
