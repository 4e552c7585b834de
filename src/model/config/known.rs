//! Fields that every `config.json` may hold, whatever the model: those that Transformers
//! 2.0 to 5.24 write for the base class of configs.

use serde_json::Value;

/// Fields that do not change the forward pass, whatever their value: bookkeeping,
/// training, classification heads, the shape of returned objects, and defaults of text
/// generation.
const NEUTRAL: &[&str] = &[
    // Origin of the file.
    "_name_or_path",
    "_commit_hash",
    "architectures",
    "finetuning_task",
    "name_or_path",
    "tokenizer_class",
    "transformers_version",
    // Number types and kernels for other programs. This program computes in f32.
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_flash_attn_2_enabled",
    "attn_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "torch_dtype",
    "torchscript",
    "use_cache",
    "xla_device",
    // Training.
    "gradient_checkpointing",
    "initializer_range",
    "is_training",
    "loss_type",
    "tf_legacy_loss",
    // Heads for other tasks.
    "_num_labels",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "task_specific_params",
    // Values that a call returns.
    "keys_to_ignore_at_inference",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "return_dict",
    "use_return_dict",
    // Options of encoder-decoder pairs. A decoder is only one part of such a pair.
    "is_decoder",
    "tie_encoder_decoder",
    // Text generation.
    "bad_words_ids",
    "begin_suppress_tokens",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "eos_token_ids",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "pad_token_id",
    "penalty_alpha",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// Fields that change nothing if they are off: `false`, `null` or empty.
const OFF: &[&str] = &[
    "add_cross_attention",
    "cross_attention_hidden_size",
    "is_encoder_decoder",
    "pruned_heads",
    "quantization_config",
    "rope_scaling",
    "use_bfloat16",
];

/// Returns whether a field does not affect inference, whatever its value.
pub fn is_neutral(field: &str) -> bool {
    NEUTRAL.contains(&field)
}

/// Returns whether a field must be off but is on.
pub fn is_on(field: &str, value: &Value) -> bool {
    let off = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    OFF.contains(&field) && !off
}

/// Returns whether a field is known and off.
pub fn is_off(field: &str, value: &Value) -> bool {
    OFF.contains(&field) && !is_on(field, value)
}
