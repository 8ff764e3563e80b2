//! The compressed kernel inside of a bzImage, decompressed on the host: there it runs at the
//! processor's full speed, once, and not in the guest, at each start.

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use std::fmt;
use std::io::{self, Read};
use thiserror::Error;

/// Why a payload cannot be decompressed.
#[derive(Debug, Error)]
pub enum PayloadError {
    /// A format without a decompressor here.
    #[error(
        "the kernel in the bzImage is compressed by {name}, which is not supported; build it with CONFIG_KERNEL_ZSTD, _GZIP, _XZ, _LZMA or _LZ4, or give its vmlinux"
    )]
    Unsupported {
        /// The format's name.
        name: &'static str,
    },
    /// No format that Linux has.
    #[error(
        "the kernel in the bzImage is compressed by something unknown (it begins with {magic:02x?}); give its vmlinux"
    )]
    Unknown {
        /// Its first bytes.
        magic: [u8; 6],
    },
    /// Bytes that are no such format, or too few.
    #[error(
        "cannot decompress the kernel in the bzImage ({compression}): {source}; the file is damaged, fetch it again"
    )]
    Damaged {
        /// The format.
        compression: Compression,
        /// What the decompressor says.
        source: io::Error,
    },
}

/// A compression format of `vmlinuz` files (`lib/decompress.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the format of its name")]
pub enum Compression {
    Gzip,
    Xz,
    Lzma,
    Lz4,
    Zstd,
    /// None: an ELF file as it is.
    None,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Lzma => "lzma",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
            Compression::None => "not compressed",
        })
    }
}

impl Compression {
    /// By the payload's first bytes.
    ///
    /// # Errors
    /// A format that is unknown, or known and not supported.
    pub fn of(payload: &[u8]) -> Result<Compression, PayloadError> {
        let unsupported = |name| Err(PayloadError::Unsupported { name });
        match payload {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Compression::Xz),
            [0x5d, 0, 0, ..] => Ok(Compression::Lzma),
            [0x02, 0x21, 0x4c, 0x18, ..] => Ok(Compression::Lz4),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
            [0x7f, b'E', b'L', b'F', ..] => Ok(Compression::None),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            [0x89, b'L', b'Z', b'O', ..] => unsupported("lzo"),
            _ => {
                let mut magic = [0; 6];
                let len = payload.len().min(6);
                magic[..len].copy_from_slice(&payload[..len]);
                Err(PayloadError::Unknown { magic })
            }
        }
    }

    /// A reader of the decompressed bytes. Linux appends their number, four bytes, to a payload, which
    /// decompressors need not look at.
    ///
    /// # Errors
    /// [`PayloadError::Damaged`]: a header that is none.
    pub fn reader<'a>(self, payload: impl Read + 'a) -> Result<Box<dyn Read + 'a>, PayloadError> {
        let damaged = |source| PayloadError::Damaged {
            compression: self,
            source,
        };
        Ok(match self {
            Compression::Gzip => Box::new(flate2::read::GzDecoder::new(payload)),
            Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
                payload,
                false,
                WINDOW_MAX_KIB,
            )),
            Compression::Lzma => Box::new(
                lzma_rust2::LzmaReader::new_mem_limit(payload, WINDOW_MAX_KIB, None)
                    .map_err(|error| damaged(io::Error::other(error)))?,
            ),
            Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(payload)),
            Compression::Zstd => {
                let decoder = StreamingDecoder::new_with_max_window_size(payload, WINDOW_MAX);
                Box::new(Zstd(
                    decoder.map_err(|error| damaged(io::Error::other(error)))?,
                ))
            }
            Compression::None => Box::new(payload),
        })
    }
}

/// What a kernel's decompressor may take for its window; Linux's own use 128 MiB at most.
const WINDOW_MAX: u64 = 256 << 20;
const WINDOW_MAX_KIB: u32 = (WINDOW_MAX >> 10) as u32;

/// A zstd decoder that looks at the checksum in the end, as the other formats' do.
struct Zstd<P: Read>(StreamingDecoder<P, FrameDecoder>);

impl<P: Read> Read for Zstd<P> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read(bytes)?;
        let decoder = &self.0.decoder;
        let told = decoder.get_checksum_from_data();
        if len == 0 && told.is_some() && told != decoder.get_calculated_checksum() {
            return Err(io::Error::other("its checksum is another one"));
        }
        Ok(len)
    }
}
