//! The packets of RFC 1350 and RFC 2347, as bytes and as values. Nothing here knows a socket or a clock.

mod options;

pub use options::{InvalidOption, Options};

/// The block size where none is asked for (RFC 1350).
pub const DEFAULT_BLKSIZE: u16 = 512;
/// Opcode and block number, in front of each block.
pub const DATA_HEADER: usize = 4;

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OPTION_ACK: u16 = 6;

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ: somebody wants a file.
    Read(Request<'a>),
    /// WRQ: somebody wants to leave a file here.
    Write,
    /// A block of a file, counted from 1 and round.
    Data {
        /// The number, modulo 65,536.
        block: u16,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// All blocks up to this one have arrived; 0 is for the options.
    Ack(u16),
    /// The transfer is over.
    Error {
        /// What went wrong, as RFC 1350 counts it.
        code: u16,
        /// The same for people.
        text: &'a [u8],
    },
    /// The options that the server takes.
    OptionAck(Options),
}

/// What a read request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The name as sent: any bytes but NUL.
    pub file: &'a [u8],
    /// How the file is to be sent.
    pub mode: Mode,
    /// The options that this server knows.
    pub options: Options,
}

/// How a file is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Byte for byte.
    Octet,
    /// Text, with the line ends of the network.
    Netascii,
    /// Anything else, such as `mail`.
    Other,
}

/// Bytes that are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Less than an opcode and what must follow it.
    #[error("too short")]
    Short,
    /// An opcode that no RFC has.
    #[error("unknown opcode")]
    Opcode,
    /// A request without an end: it was cut, or never was one.
    #[error("a request that has no end")]
    Request,
    /// An option whose value is none.
    #[error(transparent)]
    Option(#[from] InvalidOption),
}

// === impl Packet ===

impl<'a> Packet<'a> {
    /// Reads a datagram.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (opcode, rest) = split_u16(datagram).ok_or(Malformed::Short)?;
        match opcode {
            READ => Request::parse(rest).map(Self::Read),
            WRITE => Ok(Self::Write),
            DATA => split_u16(rest)
                .map(|(block, bytes)| Self::Data { block, bytes })
                .ok_or(Malformed::Short),
            ACK => split_u16(rest)
                .map(|(block, _)| Self::Ack(block))
                .ok_or(Malformed::Short),
            ERROR => split_u16(rest)
                .map(|(code, text)| Self::Error {
                    code,
                    text: until_nul(text),
                })
                .ok_or(Malformed::Short),
            OPTION_ACK => Ok(Self::OptionAck(Options::parse(&mut Fields(rest))?)),
            _ => Err(Malformed::Opcode),
        }
    }

    /// Appends the datagram.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Read(request) => {
                out.extend(READ.to_be_bytes());
                out.extend(request.file);
                let mode: &[u8] = match request.mode {
                    Mode::Octet => b"octet",
                    Mode::Netascii => b"netascii",
                    Mode::Other => b"mail",
                };
                out.extend([b"\0", mode, b"\0"].concat());
                request.options.write(out);
            }
            Self::Write => out.extend(WRITE.to_be_bytes()),
            Self::Data { block, bytes } => {
                write_data_header(*block, out);
                out.extend(*bytes);
            }
            Self::Ack(block) => {
                out.extend(ACK.to_be_bytes());
                out.extend(block.to_be_bytes());
            }
            Self::Error { code, text } => {
                out.extend(ERROR.to_be_bytes());
                out.extend(code.to_be_bytes());
                out.extend(*text);
                out.push(0);
            }
            Self::OptionAck(options) => {
                out.extend(OPTION_ACK.to_be_bytes());
                options.write(out);
            }
        }
    }
}

/// Appends what stands before the bytes of a block.
pub(crate) fn write_data_header(block: u16, out: &mut Vec<u8>) {
    out.extend(DATA.to_be_bytes());
    out.extend(block.to_be_bytes());
}

// === impl Request ===

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        let file = fields.next()?;
        // Some firmware fills the name up with NULs.
        let mut mode = fields.next()?;
        while mode.is_empty() {
            mode = fields.next()?;
        }
        let mode = if mode.eq_ignore_ascii_case(b"octet") {
            Mode::Octet
        } else if mode.eq_ignore_ascii_case(b"netascii") {
            Mode::Netascii
        } else {
            Mode::Other
        };
        Ok(Self {
            file,
            mode,
            options: Options::parse(&mut fields)?,
        })
    }
}

/// Texts that end with NUL, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(Malformed::Request)?;
        let (field, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(field)
    }
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*word), rest))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
