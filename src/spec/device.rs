//! The `device` of a spec, and of `--device`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The device that multiplies matrices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenDevice", into = "WrittenDevice")]
pub enum DeviceChoice {
    /// A graphics processor if there is one that supports the spec, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// NVIDIA cards. It is an error if there is none.
    Cuda(CardChoice),
}

/// The NVIDIA cards of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardChoice {
    /// All cards that the driver reports.
    All,
    /// The cards with these numbers, at least one, each once.
    Numbered(Vec<usize>),
}

impl CardChoice {
    /// The first card that the driver reports.
    pub fn first() -> Self {
        Self::Numbered(vec![0])
    }

    fn numbered(cards: Vec<usize>) -> Result<Self, String> {
        if cards.is_empty() {
            return Err("expected the number of at least one card, such as 0".into());
        }
        match (1..cards.len()).find(|&i| cards[..i].contains(&cards[i])) {
            Some(i) => Err(format!("card {} is named twice", cards[i])),
            None => Ok(Self::Numbered(cards)),
        }
    }
}

/// The device that multiplies matrices, as it is written in a spec.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected auto, cpu, cuda, { cuda: all } or { cuda: [0, 1] }")]
#[schemars(rename = "DeviceChoice")]
pub enum WrittenDevice {
    /// A kind of device; of several NVIDIA cards, the first.
    Named(NamedDevice),
    /// NVIDIA cards. Each sums a share of the tokens.
    Cards(ChosenCards),
}

/// NVIDIA cards. Each sums a share of the tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChosenCards {
    /// The cards.
    cuda: WrittenCards,
}

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedDevice {
    /// A graphics processor if there is one that supports the spec, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first NVIDIA card. It is an error if there is none.
    Cuda,
}

/// NVIDIA cards.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum WrittenCards {
    /// All cards.
    Every(EveryCard),
    /// The card with this number, as `nvidia-smi` counts.
    One(usize),
    /// The cards with these numbers.
    Some(Vec<usize>),
}

/// The word for all cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EveryCard {
    /// All cards that the driver reports.
    All,
}

impl TryFrom<WrittenDevice> for DeviceChoice {
    type Error = String;

    fn try_from(written: WrittenDevice) -> Result<Self, String> {
        let cards = match written {
            WrittenDevice::Named(NamedDevice::Auto) => return Ok(Self::Auto),
            WrittenDevice::Named(NamedDevice::Cpu) => return Ok(Self::Cpu),
            WrittenDevice::Named(NamedDevice::Cuda) => CardChoice::first(),
            WrittenDevice::Cards(ChosenCards { cuda }) => match cuda {
                WrittenCards::Every(EveryCard::All) => CardChoice::All,
                WrittenCards::One(card) => CardChoice::numbered(vec![card])?,
                WrittenCards::Some(cards) => CardChoice::numbered(cards)?,
            },
        };
        Ok(Self::Cuda(cards))
    }
}

impl From<DeviceChoice> for WrittenDevice {
    fn from(choice: DeviceChoice) -> Self {
        let cards = match choice {
            DeviceChoice::Auto => return Self::Named(NamedDevice::Auto),
            DeviceChoice::Cpu => return Self::Named(NamedDevice::Cpu),
            DeviceChoice::Cuda(cards) if cards == CardChoice::first() => {
                return Self::Named(NamedDevice::Cuda);
            }
            DeviceChoice::Cuda(CardChoice::All) => WrittenCards::Every(EveryCard::All),
            DeviceChoice::Cuda(CardChoice::Numbered(cards)) => WrittenCards::Some(cards),
        };
        Self::Cards(ChosenCards { cuda: cards })
    }
}

impl JsonSchema for DeviceChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        WrittenDevice::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        WrittenDevice::json_schema(generator)
    }
}

/// As on the command line: `auto`, `cpu`, `cuda`, `cuda:all`, `cuda:1` or `cuda:0,1`.
impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let cards = match text.split_once(':') {
            None if text == "auto" => return Ok(Self::Auto),
            None if text == "cpu" => return Ok(Self::Cpu),
            None if text == "cuda" => CardChoice::first(),
            Some(("cuda", "all")) => CardChoice::All,
            Some(("cuda", numbers)) => {
                let number = |text: &str| text.parse::<usize>().ok();
                let numbers: Option<Vec<usize>> = numbers.split(',').map(number).collect();
                CardChoice::numbered(numbers.ok_or("expected cuda:all, or numbers: cuda:0,1")?)?
            }
            _ => return Err("expected auto, cpu, cuda, cuda:all, cuda:1 or cuda:0,1".into()),
        };
        Ok(Self::Cuda(cards))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(CardChoice::All) => f.write_str("cuda:all"),
            Self::Cuda(CardChoice::Numbered(cards)) if cards == &[0] => f.write_str("cuda"),
            Self::Cuda(CardChoice::Numbered(cards)) => {
                let cards: Vec<String> = cards.iter().map(usize::to_string).collect();
                write!(f, "cuda:{}", cards.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let cards = |cards: &[usize]| DeviceChoice::Cuda(CardChoice::Numbered(cards.to_vec()));
        for (written, said, choice) in [
            ("auto", "auto", DeviceChoice::Auto),
            ("cpu", "cpu", DeviceChoice::Cpu),
            ("cuda", "cuda", cards(&[0])),
            ("{ cuda: all }", "cuda:all", DeviceChoice::Cuda(CardChoice::All)),
            ("{ cuda: 1 }", "cuda:1", cards(&[1])),
            ("{ cuda: [2, 0] }", "cuda:2,0", cards(&[2, 0])),
        ] {
            let read: DeviceChoice = serde_yaml::from_str(written).expect(written);
            assert_eq!(read, choice, "{written}");
            assert_eq!(said.parse(), Ok(choice.clone()), "{said}");
            assert_eq!(choice.to_string(), said);
            let again = serde_yaml::to_string(&choice).expect("YAML");
            assert_eq!(serde_yaml::from_str::<DeviceChoice>(&again).expect("YAML"), choice);
        }
    }

    #[test]
    fn other_devices_are_refused_in_words() {
        for (written, why) in [
            ("gpu", "expected auto, cpu, cuda"),
            ("{ cuda: none }", "expected auto, cpu, cuda"),
            ("{ cuda: [] }", "at least one card"),
            ("{ cuda: [1, 0, 1] }", "card 1 is named twice"),
            ("{ cuda: [0], metal: 1 }", "expected auto, cpu, cuda"),
        ] {
            let refused = serde_yaml::from_str::<DeviceChoice>(written).expect_err(written);
            assert!(refused.to_string().contains(why), "{written}: {refused}");
        }
        for said in ["gpu", "cuda:", "cuda:a", "cuda:1,", "cuda:0,0", "cuda:-1", "cpu:0", "CUDA"] {
            assert!(said.parse::<DeviceChoice>().is_err(), "{said}");
        }
    }
}
