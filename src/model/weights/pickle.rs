//! Checkpoints that `torch.save` writes: a zip archive of a pickle that names tensors, and of
//! the bytes of each. The pickle is read by a machine that knows the few objects that such
//! files hold, and executes nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::rc::Rc;

use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use super::source::Tensor;

/// Longest pickle that is read: names and shapes of tensors take far less.
const MAX_PICKLE: u64 = 64 << 20;
/// Most nested tuples, and most dictionaries and lists; real files have a few, and some
/// hundreds.
const MAX_DEPTH: usize = 16;
const MAX_CONTAINERS: usize = 10_000;

type Outcome<T> = Result<T, String>;

/// The tensors of an archive and where in it their bytes lie.
///
/// # Errors
/// What is wrong: no archive, compressed or cut-short entries, an object that is none of
/// the few known ones, a tensor that does not lie in its storage or is not row-major.
pub fn tensors(bytes: &[u8]) -> Outcome<BTreeMap<String, Tensor>> {
    let archive = Archive::open(bytes)?;
    let place = |(name, tensor): (String, Rc<Pickled>)| {
        let placed = archive.place(&tensor).map_err(|e| format!("tensor `{name}` {e}"))?;
        Ok((name, placed))
    };
    pickled(&archive.pickle)?.into_iter().map(place).collect()
}

/// How many tensors a pickle names.
///
/// # Errors
/// As [`tensors`].
pub fn tensors_of_pickle(bytes: &[u8]) -> Outcome<usize> {
    pickled(bytes).map(|tensors| tensors.len())
}

/// The tensors that a pickle names.
fn pickled(bytes: &[u8]) -> Outcome<Vec<(String, Rc<Pickled>)>> {
    let Value::Dict(items) = Machine::new(bytes).run()? else {
        return Err("holds something else than tensors by name".into());
    };
    let items = items.borrow();
    let tensor = |(name, value): &(Value, Value)| match (name, value) {
        (Value::Text(name), Value::Tensor(tensor)) => Ok((name.to_string(), tensor.clone())),
        (Value::Text(name), _) => Err(format!("`{name}` is no tensor")),
        _ => Err("holds a tensor without a name".into()),
    };
    items.iter().map(tensor).collect()
}

/// Entries of an archive, by their names below its folder.
struct Archive {
    pickle: Vec<u8>,
    storages: BTreeMap<String, Range<usize>>,
}

impl Archive {
    fn open(bytes: &[u8]) -> Outcome<Self> {
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
            format!("is no zip archive as `torch.save` of PyTorch 1.6 or newer writes it ({e})")
        })?;
        let (mut pickle, mut storages) = (None, BTreeMap::new());
        for i in 0..zip.len() {
            let mut entry = zip.by_index(i).map_err(|e| format!("has a damaged entry ({e})"))?;
            let name = entry.name().map_err(|e| format!("has an entry of a bad name ({e})"))?;
            let name = name.into_owned();
            if entry.compression() != CompressionMethod::Stored {
                return Err(format!("entry `{name}` is compressed, expected it stored"));
            }
            let inner = name.split_once('/').map_or(&*name, |(_, inner)| inner);
            if inner == "data.pkl" {
                pickle = Some(read_whole(&mut entry)?);
            } else if inner == "byteorder" {
                if read_whole(&mut entry)? != b"little" {
                    return Err("is of a big-endian machine".into());
                }
            } else if let Some(key) = inner.strip_prefix("data/") {
                let start =
                    entry.data_start().ok_or_else(|| format!("entry `{name}` has no place"))?;
                let range = start..start.saturating_add(entry.size());
                let outside = || format!("entry `{name}` does not lie in the file");
                if range.end > bytes.len() as u64 {
                    return Err(outside());
                }
                storages.insert(key.to_owned(), range.start as usize..range.end as usize);
            }
        }
        let pickle = pickle.ok_or("is an archive without `data.pkl`")?;
        Ok(Self { pickle, storages })
    }

    /// Where a tensor lies in the file.
    fn place(&self, tensor: &Pickled) -> Outcome<Tensor> {
        let Pickled { dtype, key, offset, shape, strides } = tensor;
        let storage = self.storages.get(&**key).ok_or("has no bytes in the archive")?;
        if !row_major(shape, strides) {
            return Err(format!("has strides {strides:?} for shape {shape:?}, expected row-major"));
        }
        let size = dtype.bitsize() / 8;
        let values = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
        let length = values.and_then(|n| n.checked_mul(size)).ok_or("is too large")?;
        let start = offset.checked_mul(size).ok_or("is too large")?;
        let end = start.checked_add(length).ok_or("is too large")?;
        if end > storage.len() {
            return Err(format!("ends at byte {end} of {}", storage.len()));
        }
        let bytes = storage.start + start..storage.start + end;
        Ok(Tensor { dtype: *dtype, shape: shape.clone(), file: 0, bytes })
    }
}

fn read_whole(entry: &mut impl Read) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = entry.take(MAX_PICKLE + 1).read_to_end(&mut bytes);
    match read {
        Ok(n) if n as u64 > MAX_PICKLE => Err(format!("its pickle is over {MAX_PICKLE} bytes")),
        Ok(_) => Ok(bytes),
        Err(e) => Err(format!("has a damaged entry ({e})")),
    }
}

fn row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut next = 1_usize;
    let fits = |(d, stride): (&usize, &usize)| {
        // The stride of a dimension of one value moves nothing.
        let fits = *d == 1 || *stride == next;
        next = next.saturating_mul(*d);
        fits
    };
    shape.len() == strides.len()
        && (shape.contains(&0) || shape.iter().zip(strides).rev().all(fits))
}

/// A tensor as a pickle describes it.
#[derive(Debug)]
struct Pickled {
    dtype: Dtype,
    key: Rc<str>,
    /// Values of the storage before its own.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// What may be called or named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    fn named(module: &str, name: &str) -> Outcome<Self> {
        let storage = |name: &str| {
            Some(match name {
                "FloatStorage" => Dtype::F32,
                "HalfStorage" => Dtype::F16,
                "BFloat16Storage" => Dtype::BF16,
                "DoubleStorage" => Dtype::F64,
                "LongStorage" => Dtype::I64,
                "IntStorage" => Dtype::I32,
                "ByteStorage" => Dtype::U8,
                "BoolStorage" => Dtype::BOOL,
                _ => return None,
            })
        };
        let known = match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", name) => storage(name).map(Self::Storage),
            _ => None,
        };
        known.ok_or_else(|| {
            format!("its pickle names `{module}.{name}`, which weights have no need of; nothing was executed")
        })
    }
}

type Items = Rc<RefCell<Vec<(Value, Value)>>>;

/// A value on the stack. Copies are shared, so that a file cannot multiply them.
#[derive(Debug, Clone)]
enum Value {
    Nothing,
    Int(i64),
    Text(Rc<str>),
    /// Values, and how deep they are nested.
    Tuple(Rc<[Value]>, usize),
    Dict(Items),
    List,
    Global(Global),
    Storage(Dtype, Rc<str>),
    Tensor(Rc<Pickled>),
}

/// The machine that reads a pickle of protocol 2.
struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    containers: usize,
}

impl<'a> Machine<'a> {
    fn new(code: &'a [u8]) -> Self {
        let (stack, marks, memo) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { code, at: 0, stack, marks, memo, containers: 0 }
    }

    fn run(mut self) -> Outcome<Value> {
        loop {
            let op = self.bytes(1)?[0];
            if op == b'.' {
                return self.pop();
            }
            self.step(op)?;
        }
    }

    fn step(&mut self, op: u8) -> Outcome<()> {
        match op {
            0x80 => self.bytes(1).map(|_| ()),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::named(&module, &name)?;
                self.push(Value::Global(global))
            }
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'X' => {
                let length = self.u32()? as usize;
                let text = std::str::from_utf8(self.bytes(length)?);
                let text: Rc<str> = text.map_err(|_| "its pickle holds no UTF-8")?.into();
                self.push(Value::Text(text))
            }
            b'K' => {
                let value = self.bytes(1)?[0];
                self.push(Value::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            0x8A => self.long(),
            b'G' => {
                self.bytes(8)?;
                self.push(Value::Nothing)
            }
            b'N' | 0x88 | 0x89 => self.push(Value::Nothing),
            b'}' => self.container(Value::Dict(Rc::default())),
            b']' => self.container(Value::List),
            b')' => self.push(Value::Tuple(Rc::new([]), 0)),
            b't' => {
                let values = self.since_mark()?;
                self.tuple(values)
            }
            0x85..=0x87 => {
                let first = self.stack.len().checked_sub(usize::from(op - 0x84));
                let values = self.stack.split_off(first.ok_or("its pickle is cut short")?);
                self.tuple(values)
            }
            b'q' => {
                let key = self.bytes(1)?[0];
                self.remember(key.into())
            }
            b'r' => {
                let key = self.u32()?;
                self.remember(key)
            }
            b'h' => {
                let key = self.bytes(1)?[0];
                self.recall(key.into())
            }
            b'j' => {
                let key = self.u32()?;
                self.recall(key)
            }
            b'u' => {
                let values = self.since_mark()?;
                self.set_items(values)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![key, value])
            }
            b'e' => self.since_mark().map(|_| ()),
            // An element of a list, and the attributes of an object: of no interest.
            b'a' | b'b' => self.pop().map(|_| ()),
            b'Q' => self.storage(),
            b'R' => self.call(),
            _ => Err(format!(
                "its pickle has the instruction {op:#04x}, which is none that weights need"
            )),
        }
    }

    fn bytes(&mut self, n: usize) -> Outcome<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.code.len());
        let bytes = &self.code[self.at..end.ok_or("its pickle is cut short")?];
        self.at += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Outcome<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn line(&mut self) -> Outcome<String> {
        let rest = &self.code[self.at..];
        let end = rest.iter().position(|b| *b == b'\n').ok_or("its pickle is cut short")?;
        let line = String::from_utf8_lossy(self.bytes(end)?).into_owned();
        self.at += 1;
        Ok(line)
    }

    /// An integer of up to eight bytes.
    fn long(&mut self) -> Outcome<()> {
        let length = usize::from(self.bytes(1)?[0]);
        let digits = self.bytes(length)?;
        let negative = digits.last().is_some_and(|b| b & 0x80 != 0);
        if length > 8 {
            return Err("its pickle holds an integer of more than eight bytes".into());
        }
        let mut whole = [if negative { 0xFF } else { 0 }; 8];
        whole[..length].copy_from_slice(digits);
        self.push(Value::Int(i64::from_le_bytes(whole)))
    }

    fn push(&mut self, value: Value) -> Outcome<()> {
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Outcome<Value> {
        self.stack.pop().ok_or_else(|| "its pickle is cut short".into())
    }

    fn container(&mut self, value: Value) -> Outcome<()> {
        self.containers += 1;
        if self.containers > MAX_CONTAINERS {
            return Err(format!("its pickle holds over {MAX_CONTAINERS} dictionaries and lists"));
        }
        self.push(value)
    }

    fn since_mark(&mut self) -> Outcome<Vec<Value>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("its pickle is cut short")?))
    }

    fn tuple(&mut self, values: Vec<Value>) -> Outcome<()> {
        let depth = |value: &Value| if let Value::Tuple(_, depth) = value { *depth } else { 0 };
        let depth = 1 + values.iter().map(depth).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            return Err(format!("its pickle nests tuples more than {MAX_DEPTH} deep"));
        }
        self.push(Value::Tuple(values.into(), depth))
    }

    fn remember(&mut self, key: u32) -> Outcome<()> {
        let value = self.stack.last().ok_or("its pickle is cut short")?.clone();
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Outcome<()> {
        let value = self.memo.get(&key).ok_or("its pickle asks for what it has not made")?;
        self.push(value.clone())
    }

    fn set_items(&mut self, values: Vec<Value>) -> Outcome<()> {
        let Some(Value::Dict(items)) = self.stack.last() else {
            return Err("its pickle puts items into what is no dictionary".into());
        };
        let mut values = values.into_iter();
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            items.borrow_mut().push((key, value));
        }
        Ok(())
    }

    /// `('storage', class, key, device, size)`.
    fn storage(&mut self) -> Outcome<()> {
        let wrong = || "its pickle names bytes in an unknown way".to_owned();
        let Value::Tuple(parts, _) = self.pop()? else { return Err(wrong()) };
        let [Value::Text(kind), Value::Global(Global::Storage(dtype)), Value::Text(key), ..] =
            &parts[..]
        else {
            return Err(wrong());
        };
        if &**kind != "storage" {
            return Err(wrong());
        }
        self.push(Value::Storage(*dtype, key.clone()))
    }

    fn call(&mut self) -> Outcome<()> {
        let wrong = || "its pickle makes an object in an unknown way".to_owned();
        let Value::Tuple(arguments, _) = self.pop()? else { return Err(wrong()) };
        match (self.pop()?, &arguments[..]) {
            (Value::Global(Global::OrderedDict), []) => self.container(Value::Dict(Rc::default())),
            (Value::Global(Global::RebuildParameter), [tensor @ Value::Tensor(_), ..]) => {
                self.push(tensor.clone())
            }
            (
                Value::Global(Global::RebuildTensor),
                [
                    Value::Storage(dtype, key),
                    Value::Int(offset),
                    Value::Tuple(shape, _),
                    Value::Tuple(strides, _),
                    ..,
                ],
            ) => {
                let sizes = |values: &[Value]| values.iter().map(size).collect::<Outcome<Vec<_>>>();
                let tensor = Pickled {
                    dtype: *dtype,
                    key: key.clone(),
                    offset: size(&Value::Int(*offset))?,
                    shape: sizes(shape)?,
                    strides: sizes(strides)?,
                };
                self.push(Value::Tensor(Rc::new(tensor)))
            }
            _ => Err(wrong()),
        }
    }
}

fn size(value: &Value) -> Outcome<usize> {
    match value {
        Value::Int(n) => usize::try_from(*n).map_err(|_| "its pickle has a negative size".into()),
        _ => Err("its pickle has a size that is no number".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(code: &[u8]) -> Outcome<Value> {
        Machine::new(code).run()
    }

    #[test]
    fn nothing_that_is_named_is_executed() {
        let code = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00echo\x85R.";
        let problem = run(code).expect_err("refused");
        assert!(problem.contains("`os.system`") && problem.contains("nothing was executed"));
    }

    #[test]
    fn what_is_cut_short_or_too_much_is_refused() {
        let many = b"}".repeat(MAX_CONTAINERS + 1);
        let deep = [&b")"[..], &b"\x85".repeat(MAX_DEPTH + 1)].concat();
        for code in [
            &b"\x80"[..],
            b"",
            b".",
            b"t.",
            b"h\x01.",
            b"X\xFF\xFF\xFF\xFFa.",
            b"R.",
            b"Q.",
            b"\xFF",
        ] {
            assert!(run(code).is_err(), "{code:?}");
        }
        assert!(run(&many).expect_err("many").contains("dictionaries"));
        assert!(run(&deep).expect_err("deep").contains("deep"));
    }

    #[test]
    fn integers_are_little_endian_and_signed() {
        let int = |code: &[u8]| match run(code) {
            Ok(Value::Int(n)) => n,
            other => panic!("{other:?}"),
        };
        assert_eq!(int(b"J\xFE\xFF\xFF\xFF."), -2);
        assert_eq!(int(b"\x8A\x02\x00\x80."), -32768);
        assert_eq!(int(b"\x8A\x03\x00\x80\x00."), 32768);
    }

    #[test]
    fn strides_are_those_of_rows() {
        assert!(row_major(&[2, 3], &[3, 1]) && row_major(&[1, 3], &[7, 1]) && row_major(&[], &[]));
        assert!(!row_major(&[2, 3], &[1, 2]) && !row_major(&[2], &[1, 1]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = run(&bytes);
            let _ = tensors(&bytes);
        }
    }
}
