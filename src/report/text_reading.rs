//! The activations of a neuron on a text, for a terminal or as plain text.

use crate::cards::{TextReading, shown};
use crate::output::Piece;
use crate::printable;

/// Number of shades of the activations, besides none.
const SHADES: f32 = 5.0;

/// Returns what is shown of a reading: a line per token with its activation, shaded by the
/// activation's share of the largest in the text, then the predictions without other neurons.
pub fn pieces(reading: &TextReading) -> Vec<Piece> {
    let TextReading { neuron, model, tokens, without } = reading;
    let largest = tokens.iter().map(|t| t.post).filter(|v| v.is_finite()).fold(0.0, f32::max);
    let mut all = vec![Piece::plain(format!(
        "{neuron} of model {model} on {} tokens: activation after GELU\n",
        tokens.len()
    ))];
    for token in tokens {
        all.push(Piece::plain(format!("  {:>8.3}  ", token.post)));
        let share = if token.post > 0.0 { token.post / largest } else { 0.0 };
        let text = printable::line(&shown(&token.token)).into_owned();
        all.push(Piece { text, shade: (share * SHADES).ceil() as u8 });
        all.push(Piece::plain("\n".into()));
    }
    let Some(without) = without else { return all };
    let mut text = format!(
        "\nwithout {} (activation 0 at every token)\n  loss {:.4} becomes {:.4} nats, KL {:.4}\n  \
         next token            with    without\n",
        without.neurons.join(", "),
        without.loss,
        without.loss_without,
        without.kl
    );
    for next in &without.next {
        let token = format!("{:?}", shown(&next.token));
        let (with, less) = (100.0 * next.probability, 100.0 * next.probability_without);
        text.push_str(&format!("  {token:<18} {with:>6.2} %   {less:>6.2} %\n"));
    }
    all.push(Piece::plain(text));
    all
}
