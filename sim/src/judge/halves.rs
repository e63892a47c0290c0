//! `no-half-package`: where something was to be installed there is nothing, or exactly what was published, whatever happened; and
//! an installation leaves nothing beside it of one that was cut off.

use std::time::Duration;

use super::{Aim, Case, Fact, Found};

/// Its name.
pub(super) const RULE: &str = "no-half-package";

pub(super) fn hear(found: &mut Found, case: &Case, at: Duration, fact: &Fact) {
    match fact {
        Fact::Stands { step, node, tree } => {
            let Some(Aim::Install { package, version }) = case.steps.get(*step).map(|step| &step.aim) else {
                return;
            };
            let is_it = |(of, it): &(&str, &str)| {
                of == package && version.as_deref().is_none_or(|version| version == *it)
            };
            let written =
                case.trees.iter().map(|((_, of, version), tree)| ((of.as_str(), version.as_str()), tree));
            if !written.filter(|(name, _)| is_it(name)).any(|(_, written)| written == tree) {
                let what = format!(
                    "what stands where step {step} was to install {package} is not what was published"
                );
                found.add(RULE, at, *node, what);
            }
        }
        Fact::Littered { node, staged } => {
            found.add(RULE, at, *node, format!("{staged} staging folders are left beside an installation"));
        }
        _ => {}
    }
}
