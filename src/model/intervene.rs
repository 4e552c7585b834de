//! Hooks that intervene in the forward pass.

use super::change::Changes;
pub use super::change::{Action, Intervention};
use super::hook_point::HookPoint;
use super::hooks::Hooks;

/// Hooks that make interventions, then call other hooks with the changed activations.
pub struct Interventions<'a, H> {
    /// The interventions, applied in order.
    pub interventions: &'a [Intervention],
    /// Tokens of the batch to intervene at; all tokens if `None`.
    pub tokens: Option<&'a [bool]>,
    /// Hooks that see the changed activations.
    pub then: H,
}

impl<H: Hooks> Hooks for Interventions<'_, H> {
    fn changes(&self, point: HookPoint) -> Option<Changes<'_>> {
        let &Self { interventions, tokens, .. } = self;
        let changes = Changes { interventions, point, tokens };
        changes.here().next().map(|_| changes)
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.then.wants(point)
    }

    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize) {
        self.then.at(point, values, width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Site;

    #[test]
    fn columns_change_at_their_point_and_tokens_alone() {
        let point = HookPoint { layer: 1, site: Site::MlpPost };
        let change = |action| {
            let interventions = [Intervention { point, columns: vec![0, 2], action }];
            let mut seen = Vec::new();
            let mut values = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0];
            {
                let then = |_, values: &mut [f32], _| seen = values.to_vec();
                let tokens = Some([false, true].as_slice());
                let mut hooks = Interventions { interventions: &interventions, tokens, then };
                for point in [HookPoint { layer: 0, ..point }, point] {
                    if let Some(changes) = hooks.changes(point) {
                        changes.make(&mut values, 3);
                    }
                }
                hooks.at(point, &mut values, 3);
            }
            assert_eq!(seen, values, "what comes next sees the change");
            assert_eq!(values[..3], [1.0, 2.0, 3.0]);
            values[3..].to_vec()
        };
        assert_eq!(change(Action::Set(9.0)), [9.0, 2.0, 9.0]);
        assert_eq!(change(Action::Add(1.0)), [2.0, 2.0, 4.0]);
        assert_eq!(change(Action::Scale(-2.0)), [-2.0, 2.0, -6.0]);
        assert_eq!(change(Action::Clamp(1.5, 2.5)), [1.5, 2.0, 2.5]);
        assert_eq!(change(Action::Replace(vec![7.0, 8.0])), [7.0, 2.0, 8.0]);
    }
}
