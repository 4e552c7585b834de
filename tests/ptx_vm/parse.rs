//! Parses PTX text into instructions. Only what `kernels/ptx/*.ptx` uses is known; anything else is
//! an error that names it.

use std::collections::HashMap;
use std::sync::Arc;

use super::ops::{LANES, Lanes, Op, op};
use super::registers;

/// A kernel.
#[derive(Debug)]
pub struct Program {
    pub name: String,
    pub code: Vec<Instruction>,
    /// Size of each parameter in bytes, in order.
    pub params: Vec<usize>,
    pub shared: usize,
    /// Number of registers, and of the slots that hold their values.
    pub registers: usize,
    pub slots: usize,
}

/// A register: its place among all registers of a kernel, and that of its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Register {
    pub name: usize,
    pub slot: usize,
    /// Whether the machine records which lanes wrote it, because nothing proves that each read comes
    /// after a write.
    pub recorded: bool,
}

/// An instruction with its operands resolved.
#[derive(Debug, Clone)]
pub struct Instruction {
    pub op: Op,
    /// Predicate register, and whether it is negated.
    pub guard: Option<(Register, bool)>,
    pub to: Vec<Register>,
    pub from: Vec<From>,
    /// Operands of which it must be checked that they were written.
    pub checked: Vec<Register>,
    pub line: usize,
    pub text: String,
}

impl Instruction {
    /// Returns all registers that the instruction names.
    pub fn registers(&mut self) -> impl Iterator<Item = &mut Register> {
        let read = self.from.iter_mut().filter_map(|from| match from {
            From::Register(register) => Some(register),
            _ => None,
        });
        self.guard.iter_mut().map(|(register, _)| register).chain(&mut self.to).chain(read)
    }
}

/// An operand that is read.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    Register(Register),
    /// A number, the same in all lanes.
    Value(Box<Lanes>),
    /// A special register: the place of the thread, the place of the block, or the number of
    /// blocks, each along three axes.
    Special(usize),
}

impl From {
    pub fn register(&self) -> Option<Register> {
        match self {
            Self::Register(register) => Some(*register),
            _ => None,
        }
    }
}

/// Parses all kernels of a module.
pub fn parse(ptx: &str) -> Result<HashMap<String, Arc<Program>>, String> {
    let mut programs = HashMap::new();
    let lines: Vec<&str> = ptx.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        match lines[at].trim().strip_prefix(".visible .entry ") {
            Some(name) => {
                let (program, end) = Parser::default().entry(name, &lines, at)?;
                programs.insert(program.name.clone(), Arc::new(program));
                at = end;
            }
            None => at += 1,
        }
    }
    Ok(programs)
}

#[derive(Default)]
struct Parser {
    /// First register of each class, by prefix.
    classes: HashMap<String, usize>,
    registers: usize,
    shared: HashMap<String, u64>,
    shared_bytes: usize,
    params: HashMap<String, u64>,
    param_bytes: Vec<usize>,
    labels: HashMap<String, u64>,
}

impl Parser {
    fn entry(
        mut self,
        name: &str,
        lines: &[&str],
        start: usize,
    ) -> Result<(Program, usize), String> {
        let name = name.trim_end_matches('(').to_owned();
        let open = find(lines, start, "{")?;
        let end = find(lines, open, "}")?;
        for line in &lines[start..open] {
            self.parameter(line.trim().trim_end_matches(','));
        }
        let mut statements = Vec::new();
        for (number, line) in lines.iter().enumerate().take(end).skip(open + 1) {
            let line = line.split("//").next().unwrap_or("").trim();
            if let Some(label) = line.strip_suffix(':') {
                self.labels.insert(label.to_owned(), statements.len() as u64);
            } else if line.starts_with('.') {
                self.directive(line)?;
            } else {
                // A line of inline assembly may hold several instructions.
                let parts = line.split(';').map(str::trim).filter(|s| !s.is_empty());
                statements.extend(parts.map(|s| (number + 1, s)));
            }
        }
        let read = |&(line, text): &(usize, &str)| {
            self.instruction(line, text).map_err(|e| format!("{name}, line {line}: {e}: {text}"))
        };
        let mut code = statements.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let (params, shared, registers) = (self.param_bytes, self.shared_bytes, self.registers);
        registers::prove_written(&mut code, registers);
        let slots = registers::assign(&mut code, registers);
        Ok((Program { name, code, params, shared, registers, slots }, end))
    }

    fn parameter(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [".param", kind, name] = words[..] {
            self.params.insert(name.to_owned(), self.param_bytes.len() as u64);
            self.param_bytes.push(if kind.ends_with("64") { 8 } else { 4 });
        }
    }

    fn directive(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
        match words[..] {
            [".reg", _, name] => {
                let (class, count) = bracketed(name, '<', '>')?;
                self.classes.insert(class.to_owned(), self.registers);
                self.registers += count;
            }
            [".shared", ".align", align, ".b8", name] => {
                let (name, bytes) = bracketed(name, '[', ']')?;
                let align: usize = align.parse().map_err(|_| line.to_owned())?;
                let at = self.shared_bytes.next_multiple_of(align);
                self.shared.insert(name.to_owned(), at as u64);
                self.shared_bytes = at + bytes;
            }
            [".pragma", ..] => {}
            _ => return Err(format!("unknown directive {line}")),
        }
        Ok(())
    }

    fn instruction(&self, line: usize, text: &str) -> Result<Instruction, String> {
        let (guard, rest) = match text.strip_prefix('@') {
            None => (None, text),
            Some(guarded) => {
                let (guard, rest) =
                    guarded.split_once(char::is_whitespace).ok_or("no instruction")?;
                let (negated, name) = match guard.strip_prefix('!') {
                    Some(name) => (true, name),
                    None => (false, guard),
                };
                (Some((self.register(name)?, negated)), rest.trim())
            }
        };
        let (opcode, operands) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let op = op(opcode).ok_or_else(|| format!("unknown instruction {opcode}"))?;
        let mut operands = operands_of(operands);
        let written = op.writes().min(operands.len());
        let (mut to, mut from) = (Vec::new(), Vec::new());
        for operand in operands.drain(..written) {
            // The second destination of shfl, a predicate, is never read by these kernels.
            let names = operand.trim_matches(['{', '}']).split([',', '|']);
            let registers = names.map(|name| self.register(name.trim()));
            to.extend(registers.collect::<Result<Vec<_>, _>>()?);
        }
        for operand in operands {
            match operand.strip_prefix('[') {
                Some(address) => self.address(address.trim_end_matches(']'), &mut from)?,
                None => {
                    for name in operand.trim_matches(['{', '}']).split(',') {
                        from.push(self.one(name.trim())?);
                    }
                }
            }
        }
        Ok(Instruction { op, guard, to, from, checked: Vec::new(), line, text: text.to_owned() })
    }

    /// Pushes an address as two operands, base and offset.
    fn address(&self, name: &str, out: &mut Vec<From>) -> Result<(), String> {
        let (base, offset) = match name.split_once('+') {
            Some((base, offset)) if name.starts_with('%') => (base, offset),
            _ => (name, "0"),
        };
        out.extend([self.one(base)?, self.one(offset)?]);
        Ok(())
    }

    /// Resolves a register, a number, or a symbol.
    fn one(&self, name: &str) -> Result<From, String> {
        let axis =
            |name: &str| ["x", "y", "z"].iter().position(|a| name.ends_with(&format!(".{a}")));
        if let (true, Some(axis)) = (name.starts_with('%'), axis(name)) {
            let kind = ["%tid", "%ctaid", "%nctaid"]
                .iter()
                .position(|kind| name.split('.').next() == Some(kind));
            let kind = kind.ok_or_else(|| format!("unknown special register {name}"))?;
            return Ok(From::Special(kind * 3 + axis));
        }
        if name.starts_with('%') {
            return self.register(name).map(From::Register);
        }
        let (symbol, offset) = name.split_once('+').unwrap_or((name, "0"));
        for table in [&self.shared, &self.params, &self.labels] {
            if let Some(&value) = table.get(symbol) {
                return Ok(value_in_all(value + number(offset).ok_or("bad offset")?));
            }
        }
        number(name).map(value_in_all).ok_or_else(|| format!("unknown operand {name}"))
    }

    fn register(&self, name: &str) -> Result<Register, String> {
        let digits = name.find(|c: char| c.is_ascii_digit()).ok_or("no register")?;
        let start = self.classes.get(&name[..digits]);
        let index = name[digits..].parse::<usize>().ok();
        let place =
            start.zip(index).map(|(s, i)| Register { name: s + i, slot: 0, recorded: true });
        place.ok_or_else(|| format!("unknown register {name}"))
    }
}

fn value_in_all(value: u64) -> From {
    From::Value(Box::new([value; LANES]))
}

fn find(lines: &[&str], start: usize, what: &str) -> Result<usize, String> {
    let at = lines[start..].iter().position(|line| line.trim() == what);
    at.map(|at| start + at).ok_or_else(|| format!("no {what} after line {}", start + 1))
}

fn bracketed(text: &str, open: char, close: char) -> Result<(&str, usize), String> {
    let (name, count) = text.split_once(open).ok_or_else(|| text.to_owned())?;
    let count = count.trim_end_matches(close).parse().map_err(|_| text.to_owned())?;
    Ok((name, count))
}

/// Splits at commas outside of braces and brackets.
fn operands_of(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn number(text: &str) -> Option<u64> {
    if let Some(bits) = text.strip_prefix("0f").or(text.strip_prefix("0d")) {
        return u64::from_str_radix(bits, 16).ok();
    }
    if let Some(bits) = text.strip_prefix("0x") {
        return u64::from_str_radix(bits, 16).ok();
    }
    text.parse::<i64>().ok().map(|v| v as u64).or(text.parse::<u64>().ok())
}
