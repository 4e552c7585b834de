//! Reads the pickle of a checkpoint. The reader knows only the few objects that weights need, and
//! executes nothing.

use std::collections::BTreeMap;
use std::rc::Rc;

use safetensors::Dtype;

/// Maximum depth of nested tuples, and maximum number of dictionaries and lists. Real files have a
/// depth of a few, and some hundreds of these.
const MAX_DEPTH: usize = 16;
const MAX_CONTAINERS: usize = 10_000;

/// A result whose error describes the problem.
pub(super) type PickleResult<T> = Result<T, String>;

/// Returns the number of tensors that a pickle names.
///
/// # Errors
/// Returns an error as reading the archive does.
pub fn tensors_of_pickle(bytes: &[u8]) -> PickleResult<usize> {
    pickled(bytes).map(|tensors| tensors.len())
}

/// Returns the tensors that a pickle names.
///
/// # Errors
/// Returns an error that describes the problem if an object is not one of the few known ones, or the
/// pickle is damaged.
pub(super) fn pickled(bytes: &[u8]) -> PickleResult<Vec<(String, Rc<Pickled>)>> {
    let mut machine = Machine::new(bytes);
    let Value::Dict(index) = machine.run()? else {
        return Err("holds something else than tensors by name".into());
    };
    let tensor = |(name, value): &(Value, Value)| match (name, value) {
        (Value::Text(name), Value::Tensor(tensor)) => Ok((name.to_string(), tensor.clone())),
        (Value::Text(name), _) => Err(format!("`{name}` is not a tensor")),
        _ => Err("holds a tensor without a name".into()),
    };
    machine.dicts[index].iter().map(tensor).collect()
}

/// A tensor as a pickle describes it.
#[derive(Debug)]
pub(super) struct Pickled {
    pub dtype: Dtype,
    /// Name of the entry with the tensor's bytes in the archive.
    pub key: Rc<str>,
    /// Number of values in the storage before the tensor's first.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A global that a pickle may name or call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    fn named(module: &str, name: &str) -> PickleResult<Self> {
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

/// A value on the stack. Copies are shared, so that a file cannot multiply them.
#[derive(Debug, Clone)]
enum Value {
    Nothing,
    Int(i64),
    Text(Rc<str>),
    /// The values, and the depth to which they are nested.
    Tuple(Rc<[Value]>, usize),
    /// The index of the dictionary in the machine. A dictionary that holds itself then holds only an
    /// index, and is freed.
    Dict(usize),
    List,
    Global(Global),
    Storage(Dtype, Rc<str>),
    Tensor(Rc<Pickled>),
}

/// A stack machine that reads a pickle of protocol 2.
struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    dicts: Vec<Vec<(Value, Value)>>,
    containers: usize,
}

impl<'a> Machine<'a> {
    fn new(code: &'a [u8]) -> Self {
        let (stack, marks, memo) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { code, at: 0, stack, marks, memo, dicts: Vec::new(), containers: 0 }
    }

    fn run(&mut self) -> PickleResult<Value> {
        loop {
            let op = self.bytes(1)?[0];
            if op == b'.' {
                return self.pop();
            }
            self.step(op)?;
        }
    }

    fn step(&mut self, op: u8) -> PickleResult<()> {
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
            b'}' => self.dict(),
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
            // An element of a list, or the attributes of an object, which are not needed.
            b'a' | b'b' => self.pop().map(|_| ()),
            b'Q' => self.storage(),
            b'R' => self.call(),
            _ => {
                Err(format!("its pickle has the instruction {op:#04x}, which weights do not need"))
            }
        }
    }

    fn bytes(&mut self, n: usize) -> PickleResult<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.code.len());
        let bytes = &self.code[self.at..end.ok_or("its pickle is cut short")?];
        self.at += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> PickleResult<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> PickleResult<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn line(&mut self) -> PickleResult<String> {
        let rest = &self.code[self.at..];
        let end = rest.iter().position(|b| *b == b'\n').ok_or("its pickle is cut short")?;
        let line = String::from_utf8_lossy(self.bytes(end)?).into_owned();
        self.at += 1;
        Ok(line)
    }

    /// Reads an integer of up to eight bytes.
    fn long(&mut self) -> PickleResult<()> {
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

    fn push(&mut self, value: Value) -> PickleResult<()> {
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> PickleResult<Value> {
        self.stack.pop().ok_or_else(|| "its pickle is cut short".into())
    }

    fn container(&mut self, value: Value) -> PickleResult<()> {
        self.containers += 1;
        if self.containers > MAX_CONTAINERS {
            return Err(format!("its pickle holds over {MAX_CONTAINERS} dictionaries and lists"));
        }
        self.push(value)
    }

    fn dict(&mut self) -> PickleResult<()> {
        self.dicts.push(Vec::new());
        self.container(Value::Dict(self.dicts.len() - 1))
    }

    fn since_mark(&mut self) -> PickleResult<Vec<Value>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("its pickle is cut short")?))
    }

    fn tuple(&mut self, values: Vec<Value>) -> PickleResult<()> {
        let depth = |value: &Value| if let Value::Tuple(_, depth) = value { *depth } else { 0 };
        let depth = 1 + values.iter().map(depth).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            return Err(format!("its pickle nests tuples more than {MAX_DEPTH} deep"));
        }
        self.push(Value::Tuple(values.into(), depth))
    }

    fn remember(&mut self, key: u32) -> PickleResult<()> {
        let value = self.stack.last().ok_or("its pickle is cut short")?.clone();
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> PickleResult<()> {
        let value =
            self.memo.get(&key).ok_or("its pickle asks for an object that it has not stored")?;
        self.push(value.clone())
    }

    fn set_items(&mut self, values: Vec<Value>) -> PickleResult<()> {
        let Some(Value::Dict(index)) = self.stack.last() else {
            return Err("its pickle puts items into an object that is not a dictionary".into());
        };
        let mut values = values.into_iter();
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            self.dicts[*index].push((key, value));
        }
        Ok(())
    }

    /// Reads a persistent id, `('storage', class, key, device, size)`.
    fn storage(&mut self) -> PickleResult<()> {
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

    fn call(&mut self) -> PickleResult<()> {
        let wrong = || "its pickle makes an object in an unknown way".to_owned();
        let Value::Tuple(arguments, _) = self.pop()? else { return Err(wrong()) };
        match (self.pop()?, &arguments[..]) {
            (Value::Global(Global::OrderedDict), []) => self.dict(),
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
                let sizes =
                    |values: &[Value]| values.iter().map(size).collect::<PickleResult<Vec<_>>>();
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

fn size(value: &Value) -> PickleResult<usize> {
    match value {
        Value::Int(n) => usize::try_from(*n).map_err(|_| "its pickle has a negative size".into()),
        _ => Err("its pickle has a size that is not a number".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(code: &[u8]) -> PickleResult<Value> {
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
    fn a_dictionary_that_holds_itself_is_no_tensors() {
        // {}, stored as 1; key "a" and the dictionary itself; set the item.
        let code = b"}q\x01X\x01\x00\x00\x00ah\x01s.";
        assert!(matches!(run(code), Ok(Value::Dict(0))));
        assert_eq!(pickled(code).expect_err("itself"), "`a` is not a tensor");
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

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = run(&bytes);
        }
    }
}
