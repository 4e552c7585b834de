//! Names of the tensors of recorded activations.

/// The remedy for names that are not those of layers.
pub const REMEDY: &str =
    "name one tensor per layer `blocks.0.mlp.hook_post`, as TransformerLens does, or `layers.0`";

/// The tensor that marks the tokens that take part in statistics.
pub const MASK: &str = "mask";
/// The tensor of the number of each token's document.
pub const DOCUMENTS: &str = "documents";

/// The tensor of the id of each token in the vocabulary.
pub const TOKENS: &str = "tokens";

/// The role of a tensor in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerPart {
    /// Activations, which are compared.
    Post,
    /// Activations before the nonlinearity, which statistics describe.
    Pre,
}

/// Returns which layer a tensor belongs to, and as what; `None` for another name.
pub fn layer_part(name: &str) -> Option<(usize, LayerPart)> {
    if let Some(of_block) = name.strip_prefix("blocks.") {
        let (layer, hook) = of_block.split_once('.')?;
        let part = match hook {
            "mlp.hook_post" => LayerPart::Post,
            "mlp.hook_pre" => LayerPart::Pre,
            _ => return None,
        };
        return Some((number(layer)?, part));
    }
    let prefixes = ["layers.", "layer_", "layer", ""];
    let layer = prefixes.iter().find_map(|prefix| number(name.strip_prefix(prefix)?))?;
    Some((layer, LayerPart::Post))
}

/// Returns whether a tensor is another hook of TransformerLens, which a saved cache holds too.
pub fn is_other_hook(name: &str) -> bool {
    let hooks = ["blocks.", "hook_", "ln_final."];
    layer_part(name).is_none() && hooks.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the number that a text of a few digits writes.
fn number(text: &str) -> Option<usize> {
    let digits = (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_found_by_their_names() {
        for (name, expected) in [
            ("blocks.11.mlp.hook_post", Some((11, LayerPart::Post))),
            ("blocks.0.mlp.hook_pre", Some((0, LayerPart::Pre))),
            ("layers.3", Some((3, LayerPart::Post))),
            ("layer_3", Some((3, LayerPart::Post))),
            ("layer12", Some((12, LayerPart::Post))),
            ("0", Some((0, LayerPart::Post))),
            ("blocks.0.hook_resid_post", None),
            ("blocks.x.mlp.hook_post", None),
            ("layers.-1", None),
            ("layers.99999999999999999999", None),
            ("layers.1.extra", None),
            ("mask", None),
            ("", None),
        ] {
            assert_eq!(layer_part(name), expected, "{name}");
        }
    }

    #[test]
    fn the_rest_of_a_cache_is_recognised() {
        for name in ["blocks.0.hook_resid_post", "hook_embed", "ln_final.hook_scale"] {
            assert!(is_other_hook(name), "{name}");
        }
        for name in ["blocks.0.mlp.hook_post", "laers.0", "mask", "tokens"] {
            assert!(!is_other_hook(name), "{name}");
        }
    }
}
