//! Encodes and decodes the packets of RFC 1350 and RFC 2347.

mod options;

pub use options::Options;

/// The block size without the blksize option (RFC 1350).
pub const DEFAULT_BLKSIZE: u16 = 512;
/// Length of a DATA packet's header: opcode and block number.
pub const DATA_HEADER: usize = 4;

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OPTION_ACK: u16 = 6;

/// A TFTP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ: a request to read a file.
    Read(Request<'a>),
    /// WRQ: a request to write a file.
    Write,
    /// DATA: a block of a file.
    Data {
        /// The block's number, counted from 1, modulo 65,536.
        block: u16,
        /// The block's content.
        bytes: &'a [u8],
    },
    /// ACK: all blocks up to this one have arrived; 0 acknowledges the options.
    Ack(u16),
    /// ERROR: the transfer is over.
    Error {
        /// The error code of RFC 1350.
        code: u16,
        /// The error message.
        text: &'a [u8],
    },
    /// OACK: the options that the server accepts.
    OptionAck(Options),
}

/// A read request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The file name as sent: any bytes but NUL.
    pub file: &'a [u8],
    /// The transfer mode.
    pub mode: Mode,
    /// The options that this server knows.
    pub options: Options,
}

/// A transfer mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Byte for byte.
    Octet,
    /// Text with CR LF line ends.
    Netascii,
    /// Any other mode, such as `mail`.
    Other,
}

/// The bytes are not a valid packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the opcode and its fixed fields.
    #[error("too short")]
    Short,
    /// An opcode that no RFC defines.
    #[error("unknown opcode")]
    Opcode,
    /// A request without a final NUL, probably truncated.
    #[error("a request without a final NUL")]
    Request,
}

// === impl Packet ===

impl<'a> Packet<'a> {
    /// Decodes a datagram.
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

    /// Appends the encoded packet to `out`.
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

/// Appends the header of a DATA packet.
pub(crate) fn write_data_header(block: u16, out: &mut Vec<u8>) {
    out.extend(DATA.to_be_bytes());
    out.extend(block.to_be_bytes());
}

// === impl Request ===

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        let file = fields.next()?;
        // Some firmware pads the name with NULs.
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

/// Consecutive NUL-terminated strings.
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
