//! Interventions that change activations during the forward pass.

use super::hooks::{HookPoint, Hooks};

/// What to do with an activation.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Replaces the activation with this value.
    Set(f32),
    /// Adds this value to the activation.
    Add(f32),
    /// Multiplies the activation by this factor.
    Scale(f32),
    /// Clamps the activation to `[low, high]`.
    Clamp(f32, f32),
    /// Replaces the activations with these values, one per column.
    Replace(Vec<f32>),
}

/// A change of some columns at a hook point.
#[derive(Debug, Clone, PartialEq)]
pub struct Intervention {
    /// The hook point to intervene at.
    pub point: HookPoint,
    /// Columns to change: neurons of the layer, or dimensions of the residual stream.
    pub columns: Vec<usize>,
    /// What to do with each activation.
    pub action: Action,
}

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
    fn wants(&self, point: HookPoint) -> bool {
        self.interventions.iter().any(|i| i.point == point) || self.then.wants(point)
    }

    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize) {
        for intervention in self.interventions.iter().filter(|i| i.point == point) {
            for (t, row) in values.chunks_exact_mut(width).enumerate() {
                if self.tokens.is_none_or(|tokens| tokens[t]) {
                    intervention.change(row);
                }
            }
        }
        self.then.at(point, values, width);
    }
}

impl Intervention {
    fn change(&self, row: &mut [f32]) {
        for (i, &column) in self.columns.iter().enumerate() {
            let x = row[column];
            row[column] = match &self.action {
                Action::Set(v) => *v,
                Action::Add(v) => x + v,
                Action::Scale(v) => x * v,
                Action::Clamp(low, high) => x.clamp(*low, *high),
                Action::Replace(values) => values[i],
            };
        }
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
                hooks.at(HookPoint { layer: 0, ..point }, &mut values, 3);
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
