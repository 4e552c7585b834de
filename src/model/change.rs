//! Changes of activations.

use super::hook_point::HookPoint;

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
    /// Columns to change, each once: neurons of the layer, or dimensions of the residual stream.
    pub columns: Vec<usize>,
    /// What to do with each activation.
    pub action: Action,
}

impl Intervention {
    /// Changes the activations of one token.
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

    /// Returns for each column the numbers with which `x` becomes `min(max(x scale + add, low),
    /// high)`: scale, add, low and high.
    pub fn rules(&self) -> Vec<[f32; 4]> {
        const INFINITE: f32 = f32::INFINITY;
        let rule = |i: usize| match &self.action {
            Action::Set(v) => [0.0, 0.0, *v, *v],
            Action::Add(v) => [1.0, *v, -INFINITE, INFINITE],
            Action::Scale(factor) => [*factor, 0.0, -INFINITE, INFINITE],
            Action::Clamp(low, high) => [1.0, 0.0, *low, *high],
            Action::Replace(values) => [0.0, 0.0, values[i], values[i]],
        };
        (0..self.columns.len()).map(rule).collect()
    }
}

/// Changes of the activations at a hook point, in the order in which they are made.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// The interventions of a pass; those at other points are not made here.
    pub interventions: &'a [Intervention],
    /// The point.
    pub point: HookPoint,
    /// Tokens of the batch whose activations are changed; all tokens if `None`.
    pub tokens: Option<&'a [bool]>,
}

impl<'a> Changes<'a> {
    /// Returns the interventions at the point.
    pub fn here(self) -> impl Iterator<Item = &'a Intervention> {
        self.interventions.iter().filter(move |intervention| intervention.point == self.point)
    }

    /// Makes the changes in `values`, `[tokens, width]`.
    pub fn make(self, values: &mut [f32], width: usize) {
        for intervention in self.here() {
            for (t, row) in values.chunks_exact_mut(width).enumerate() {
                if self.tokens.is_none_or(|tokens| tokens[t]) {
                    intervention.change(row);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Site;

    #[test]
    fn rules_are_the_actions() {
        let point = HookPoint { layer: 0, site: Site::MlpPost };
        for action in [
            Action::Set(-0.5),
            Action::Add(0.25),
            Action::Scale(-3.0),
            Action::Clamp(-1.0, 0.5),
            Action::Clamp(f32::NEG_INFINITY, 0.0),
            Action::Replace(vec![4.0, 5.0]),
        ] {
            let intervention = Intervention { point, columns: vec![1, 0], action };
            for x in [-2.0, -0.75, 0.0, 0.4, 7.0] {
                let mut row = [x; 2];
                intervention.change(&mut row);
                for (column, [scale, add, low, high]) in
                    [1, 0].into_iter().zip(intervention.rules())
                {
                    assert_eq!(
                        row[column],
                        (x * scale + add).max(low).min(high),
                        "{intervention:?}"
                    );
                }
            }
        }
    }
}
