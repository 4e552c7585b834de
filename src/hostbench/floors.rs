//! Minimum fractions of the peak, as a file lists them.

use std::collections::BTreeMap;
use std::path::Path;

use super::rate::Rate;
use crate::backend::kernel::CpuKernel;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::spec::Precision;

/// Maximum length of a file of floors, in bytes.
const MAX_FLOORS: u64 = 1 << 20;
/// The kernel of a GPU.
pub(super) const CARD: &str = "cuda f16";
/// The kernels of a CPU and their precisions. A machine uses one of each precision.
const CPU_KERNELS: [(&str, Precision); 6] = [
    ("avx512", Precision::F32),
    ("avx2", Precision::F32),
    ("portable", Precision::F32),
    ("amx-bf16", Precision::Bf16),
    ("avx512-bf16", Precision::Bf16),
    ("bf16 in f32", Precision::Bf16),
];
const REMEDY: &str = "write `kernel: { quantity: fraction }`, as in benches/floors.yaml";

/// Minimum fractions of the peak: `kernel: { quantity: fraction }`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Floors(BTreeMap<String, BTreeMap<String, f64>>);

impl Floors {
    /// Reads floors from a YAML file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or is malformed, if it has no floors, if it
    /// names a kernel or a quantity that is never measured, or if a floor is not between 0 and 1.
    pub fn read(path: &Path) -> Result<Self> {
        let error = |problem: String| Error::new(Kind::Spec, path.display(), problem, REMEDY);
        let text = InputFile::open(Kind::Spec, path)?.text(MAX_FLOORS)?;
        let floors = Self(serde_yaml::from_str(&text).map_err(|e| error(e.to_string()))?);
        floors.check().map_err(error)?;
        Ok(floors)
    }

    /// Returns the problem if a floor can never be compared with a rate.
    fn check(&self) -> Result<(), String> {
        if self.0.values().all(BTreeMap::is_empty) {
            return Err("has no floors".to_owned());
        }
        for (kernel, floors) in &self.0 {
            let Some(known) = quantities(kernel) else {
                let kernels: Vec<&str> = CPU_KERNELS.map(|(name, _)| name).into_iter().collect();
                let kernels = kernels.join("`, `");
                return Err(format!(
                    "`{kernel}` is not a kernel; there are `{kernels}` and `{CARD}`"
                ));
            };
            for (quantity, floor) in floors {
                if !known.contains(&quantity.as_str()) {
                    let known = known.join("`, `");
                    return Err(format!(
                        "`{quantity}` of `{kernel}` is not measured; there are `{known}`"
                    ));
                }
                if !(0.0..=1.0).contains(floor) {
                    return Err(format!("`{kernel}`: `{quantity}` is {floor}, expected 0 to 1"));
                }
            }
        }
        Ok(())
    }

    /// Returns whether there are floors for a GPU.
    pub fn need_card(&self) -> bool {
        self.0.contains_key(CARD)
    }

    /// Refuses floors for kernels that this machine does not use. Of several kernels of a
    /// precision, one is enough, because a machine uses only one.
    ///
    /// # Errors
    ///
    /// Returns an error if no floor of a precision, of those in the file, is for this machine.
    pub fn check_machine(&self) -> Result<()> {
        self.check_kernels(|precision| CpuKernel::best(precision).name)
    }

    fn check_kernels(&self, used: impl Fn(Precision) -> &'static str) -> Result<()> {
        for precision in [Precision::F32, Precision::Bf16] {
            let used = used(precision);
            let of_precision = CPU_KERNELS
                .iter()
                .filter(|(name, p)| *p == precision && self.0.contains_key(*name));
            let named: Vec<&str> = of_precision.map(|(name, _)| *name).collect();
            if !named.is_empty() && !named.contains(&used) {
                let problem = format!(
                    "has floors for `{}`, but this machine uses `{used}`",
                    named.join("`, `")
                );
                let remedy = format!("add floors for `{used}`");
                return Err(Error::new(Kind::Device, "--floors", problem, remedy));
            }
        }
        Ok(())
    }

    /// Returns one line for each rate below its floor. A rate that is not a number is below it.
    pub fn missed(&self, rates: &[Rate]) -> Vec<String> {
        let missed = |rate: &Rate| {
            let floor = *self.0.get(rate.kernel)?.get(rate.what)?;
            let Rate { kernel, what, of_peak, .. } = rate;
            let reached = *of_peak >= floor;
            (!reached)
                .then(|| format!("{kernel} {what}: {of_peak:.2} of the peak, the floor is {floor}"))
        };
        rates.iter().filter_map(missed).collect()
    }
}

/// Returns the quantities that are measured for a kernel, without the one that is the peak itself.
/// Returns `None` if there is no such kernel.
fn quantities(kernel: &str) -> Option<&'static [&'static str]> {
    if kernel == CARD {
        return Some(&["pairs", "fused", "gram"]);
    }
    match CPU_KERNELS.iter().find(|(name, _)| *name == kernel)?.1 {
        Precision::F32 => Some(&["sums", "linear", "forward"]),
        Precision::Bf16 => Some(&["sums"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floors(text: &str) -> Floors {
        Floors(serde_yaml::from_str(text).expect("YAML"))
    }

    #[test]
    fn rates_below_their_floor_are_reported() {
        let rate = |what, of_peak| Rate { kernel: "avx512", what, gflops: 1.0, of_peak };
        let rates = [rate("sums", 0.5), rate("linear", 0.8)];
        let some = floors("avx512: { sums: 0.6, linear: 0.7 }\navx2: { sums: 0.9 }");
        assert_eq!(some.missed(&rates), ["avx512 sums: 0.50 of the peak, the floor is 0.6"]);
        assert!(Floors::default().missed(&rates).is_empty());
        assert_eq!(some.missed(&[rate("sums", f64::NAN)]).len(), 1);
    }

    #[test]
    fn floors_that_could_never_be_missed_are_refused() {
        for (text, problem) in [
            ("{}", "has no floors"),
            ("avx512: {}", "has no floors"),
            ("avx51: { sums: 0.5 }", "`avx51` is not a kernel"),
            ("avx512: { sum: 0.5 }", "`sum` of `avx512` is not measured"),
            ("avx512: { peak: 0.5 }", "`peak` of `avx512` is not measured"),
            ("amx-bf16: { forward: 0.5 }", "`forward` of `amx-bf16` is not measured"),
            ("cuda f16: { product: 0.5 }", "`product` of `cuda f16` is not measured"),
            ("avx512: { sums: .nan }", "`sums` is NaN"),
            ("avx512: { sums: -0.1 }", "`sums` is -0.1"),
            ("avx512: { sums: 55 }", "`sums` is 55"),
        ] {
            let refused = floors(text).check().expect_err(text);
            assert!(refused.contains(problem), "{text}: {refused}");
        }
    }

    #[test]
    fn one_kernel_of_each_precision_must_be_of_this_machine() {
        let used = |precision| match precision {
            Precision::F32 => "avx2",
            Precision::Bf16 => "bf16 in f32",
        };
        let refused = |text| floors(text).check_kernels(used).err().map(|e| e.problem);
        assert_eq!(refused("avx2: { sums: 0.5 }\navx512: { sums: 0.5 }"), None);
        assert_eq!(refused("cuda f16: { pairs: 0.5 }"), None);
        let other = "has floors for `avx512`, but this machine uses `avx2`";
        assert_eq!(refused("avx512: { sums: 0.5 }").as_deref(), Some(other));
        let other = "has floors for `amx-bf16`, but this machine uses `bf16 in f32`";
        let text = "avx2: { sums: 0.5 }\namx-bf16: { sums: 0.5 }";
        assert_eq!(refused(text).as_deref(), Some(other));
    }

    #[test]
    fn all_kernels_of_this_machine_are_known() {
        for kernel in CpuKernel::available() {
            assert!(CPU_KERNELS.contains(&(kernel.name, kernel.precision)), "{}", kernel.name);
        }
    }

    #[test]
    fn the_recorded_floors_can_be_missed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floors.yaml");
        Floors::read(&path).expect("floors");
    }
}
