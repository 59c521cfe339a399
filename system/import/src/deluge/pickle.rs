//! Python's pickles (protocols 2 to 4) as plain values, as far as Deluge's state needs them.
//!
//! A pickle is a program for a machine with a stack, which can call anything. Here it calls nothing and looks up no class: an
//! instance is the value that it was built from. Whatever the opcodes of lists, dictionaries, numbers, texts and instances cannot say is
//! refused.
//!
//! Invariant: memory in proportion to the bytes that were read. Values refer to each other by number, as a pickle may have one within
//! itself: whoever reads them goes down a known number of steps.

use std::collections::BTreeMap;

/// The most lists, dictionaries, tuples, classes and instances of a pickle.
pub const MAX_CONTAINERS: usize = 2_000_000;

/// The most values in these together, and on the stack: 16 bytes each.
pub const MAX_VALUES: usize = 10_000_000;

/// A value: small ones are themselves, texts are a range of the pickle, and all else is a number of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes { start: u32, end: u32 },
    Container(u32),
}

#[derive(Clone, Debug, PartialEq)]
enum Container {
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A class or function, which is never looked up.
    Name,
    /// An instance of something, and the value that it was built from.
    Instance(Value),
}

/// Why bytes are not a pickle that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pickle that can be read at byte {offset}: {kind}")]
pub struct PickleError {
    /// Bytes from the beginning to the place of the fault.
    pub offset: usize,
    /// The fault.
    pub kind: PickleErrorKind,
}

/// The faults that a pickle can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleErrorKind {
    /// The bytes end before the pickle does.
    #[error("it ends too early")]
    UnexpectedEnd,
    /// An opcode that says something else than values.
    #[error("the opcode 0x{0:02x} is not one of plain values")]
    Opcode(u8),
    /// A protocol other than 2, 3 and 4.
    #[error("protocol {0} is not read")]
    Protocol(u8),
    /// An opcode that finds too little on the stack, or something else than it works on.
    #[error("an opcode does not find what it works on")]
    Stack,
    /// A number that does not fit into 64 bits.
    #[error("a number does not fit into 64 bits")]
    Overflow,
    /// A value that was never kept is asked for.
    #[error("it asks for a value that it did not keep")]
    Memo,
    /// More than [`MAX_VALUES`] or [`MAX_CONTAINERS`], or more than 4 GiB.
    #[error("it has more than {MAX_VALUES} values")]
    TooMany,
}

/// A pickle that was read.
#[derive(Debug)]
pub(crate) struct Pickle {
    bytes: Vec<u8>,
    containers: Vec<Container>,
    root: Value,
}

impl Pickle {
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, PickleError> {
        let mut machine = Machine {
            bytes: &bytes,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
            containers: Vec::new(),
            values: 0,
        };
        if u32::try_from(bytes.len()).is_err() {
            return Err(machine.fault(PickleErrorKind::TooMany));
        }
        let root = machine.run()?;
        let containers = machine.containers;
        Ok(Pickle {
            containers,
            bytes,
            root,
        })
    }

    pub(crate) fn root(&self) -> Value {
        self.root
    }

    fn container(&self, value: Value) -> Option<&Container> {
        match value {
            Value::Container(number) => self.containers.get(usize::try_from(number).ok()?),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    pub(crate) fn items(&self, value: Value) -> Option<&[Value]> {
        match self.container(value)? {
            Container::List(items) | Container::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The text or bytes.
    pub(crate) fn bytes(&self, value: Value) -> Option<&[u8]> {
        match value {
            Value::Bytes { start, end } => {
                let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
                self.bytes.get(range)
            }
            _ => None,
        }
    }

    /// The entries of a dictionary, or the attributes of an instance.
    pub(crate) fn entries(&self, value: Value) -> Option<&[(Value, Value)]> {
        let value = match self.container(value)? {
            Container::Instance(state) => *state,
            _ => value,
        };
        match self.container(value)? {
            Container::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of `key` among the first `limit` entries or attributes. Of two, the later one counts.
    pub(crate) fn get(&self, value: Value, key: &str, limit: usize) -> Option<Value> {
        let entries = self.entries(value)?;
        let mut entries = entries.iter().take(limit).rev();
        let is_key = |name: Value| self.bytes(name) == Some(key.as_bytes());
        entries.find_map(|&(name, value)| is_key(name).then_some(value))
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    containers: Vec<Container>,
    values: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value, PickleError> {
        loop {
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            0x80 => match self.byte()? {
                2..=4 => Ok(()),
                other => Err(self.fault(PickleErrorKind::Protocol(other))),
            },
            // Frames only say how far one may read ahead.
            0x95 => self.take(8).map(|_| ()),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a | b'G' => self.number(opcode),
            b'X' | b'T' | b'B' | 0x8c | b'U' | b'C' | 0x8d | 0x8e => self.text(opcode),
            b'(' => {
                self.marks.push(self.stack.len());
                self.count()
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(opcode),
            b']' => self.contain(Container::List(Vec::new())),
            b'}' => self.contain(Container::Dict(Vec::new())),
            b')' => self.contain(Container::Tuple(Vec::new())),
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84)),
            b't' => {
                let items = self.marked()?;
                self.contain(Container::Tuple(items))
            }
            b'a' | b'e' | b's' | b'u' => self.fill(opcode),
            b'c' | 0x93 | 0x81 | b'R' | b'b' => self.object(opcode),
            other => Err(self.fault(PickleErrorKind::Opcode(other))),
        }
    }

    fn number(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            _ => {
                let length = usize::from(self.byte()?);
                let digits = self.take(length)?;
                // Little-endian two's complement of as few bytes as it takes.
                let Some(mut whole) = (length <= 8).then_some([0; 8]) else {
                    return Err(self.fault(PickleErrorKind::Overflow));
                };
                if digits.last().is_some_and(|byte| byte & 0x80 != 0) {
                    whole = [0xff; 8];
                }
                whole[..length].copy_from_slice(digits);
                Value::Int(i64::from_le_bytes(whole))
            }
        };
        self.push(value)
    }

    fn text(&mut self, opcode: u8) -> Result<(), PickleError> {
        let length = match opcode {
            0x8c | b'U' | b'C' => u64::from(self.byte()?),
            0x8d | 0x8e => u64::from_le_bytes(self.array()?),
            _ => u64::from(u32::from_le_bytes(self.array()?)),
        };
        let start = self.at;
        let Ok(length) = usize::try_from(length) else {
            return Err(self.fault(PickleErrorKind::UnexpectedEnd));
        };
        self.take(length)?;
        // The length of the input was checked to be within 32 bits.
        let narrow = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        let (start, end) = (narrow(start), narrow(self.at));
        self.push(Value::Bytes { start, end })
    }

    /// Keeps the top of the stack for later, or pushes what was kept.
    fn remember(&mut self, opcode: u8) -> Result<(), PickleError> {
        let number = match opcode {
            b'q' | b'h' => self.byte()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
        };
        if matches!(opcode, b'h' | b'j') {
            let kept = self.memo.get(&number).copied();
            let kept = kept.ok_or(self.fault(PickleErrorKind::Memo))?;
            return self.push(kept);
        }
        let top = self.stack.last().copied();
        let top = top.ok_or(self.fault(PickleErrorKind::Stack))?;
        self.memo.insert(number, top);
        self.count()
    }

    fn tuple(&mut self, length: usize) -> Result<(), PickleError> {
        let Some(first) = self.stack.len().checked_sub(length) else {
            return Err(self.fault(PickleErrorKind::Stack));
        };
        let items = self.stack.split_off(first);
        self.contain(Container::Tuple(items))
    }

    /// Puts values into the list or dictionary below them.
    fn fill(&mut self, opcode: u8) -> Result<(), PickleError> {
        let added = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.marked()?,
        };
        let fault = self.fault(PickleErrorKind::Stack);
        match (self.top()?, opcode) {
            (Container::List(items), b'a' | b'e') => items.extend(added),
            (Container::Dict(entries), b's' | b'u') => {
                let (pairs, odd) = added.as_chunks::<2>();
                if !odd.is_empty() {
                    return Err(fault);
                }
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            _ => return Err(fault),
        }
        Ok(())
    }

    /// Names a class, makes an instance of one, or says what it is built from.
    fn object(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b'c' => {
                self.line()?;
                self.line()?;
                self.contain(Container::Name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (name, module) {
                    (Value::Bytes { .. }, Value::Bytes { .. }) => self.contain(Container::Name),
                    _ => Err(self.fault(PickleErrorKind::Stack)),
                }
            }
            0x81 | b'R' => {
                let arguments = self.pop()?;
                if !matches!(self.contained(arguments), Some(Container::Tuple(_))) {
                    return Err(self.fault(PickleErrorKind::Stack));
                }
                let class = self.pop()?;
                if !matches!(self.contained(class), Some(Container::Name)) {
                    return Err(self.fault(PickleErrorKind::Stack));
                }
                self.contain(Container::Instance(Value::None))
            }
            _ => {
                let built_from = self.pop()?;
                let fault = self.fault(PickleErrorKind::Stack);
                match self.top()? {
                    Container::Instance(state) => *state = built_from,
                    _ => return Err(fault),
                }
                Ok(())
            }
        }
    }

    /// The container on top of the stack.
    fn top(&mut self) -> Result<&mut Container, PickleError> {
        let fault = self.fault(PickleErrorKind::Stack);
        let above_mark = self.stack.len() > self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(Value::Container(number)) if above_mark => usize::try_from(*number)
                .ok()
                .and_then(|number| self.containers.get_mut(number))
                .ok_or(fault),
            _ => Err(fault),
        }
    }

    fn contained(&self, value: Value) -> Option<&Container> {
        match value {
            Value::Container(number) => self.containers.get(usize::try_from(number).ok()?),
            _ => None,
        }
    }

    fn contain(&mut self, container: Container) -> Result<(), PickleError> {
        if self.containers.len() >= MAX_CONTAINERS {
            return Err(self.fault(PickleErrorKind::TooMany));
        }
        let number = u32::try_from(self.containers.len()).unwrap_or(u32::MAX);
        self.containers.push(container);
        self.push(Value::Container(number))
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        self.stack.push(value);
        self.count()
    }

    /// Counts what was kept anywhere; nothing is ever taken off this count.
    fn count(&mut self) -> Result<(), PickleError> {
        self.values += 1;
        match self.values <= MAX_VALUES {
            true => Ok(()),
            false => Err(self.fault(PickleErrorKind::TooMany)),
        }
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        // A value below a mark belongs to what the mark began.
        let above_mark = self.stack.len() > self.marks.last().copied().unwrap_or(0);
        let popped = above_mark.then(|| self.stack.pop()).flatten();
        popped.ok_or(self.fault(PickleErrorKind::Stack))
    }

    /// What is above the last mark, which goes.
    fn marked(&mut self) -> Result<Vec<Value>, PickleError> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(self.fault(PickleErrorKind::Stack)),
        }
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, length: usize) -> Result<&[u8], PickleError> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(self.fault(PickleErrorKind::UnexpectedEnd))?;
        self.at += length;
        Ok(taken)
    }

    fn line(&mut self) -> Result<(), PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or(self.fault(PickleErrorKind::UnexpectedEnd))?;
        self.at += end + 1;
        Ok(())
    }

    fn fault(&self, kind: PickleErrorKind) -> PickleError {
        let offset = self.at;
        PickleError { offset, kind }
    }
}

#[cfg(test)]
mod tests;
