//! What the fuzz targets share.

pub mod virtio;

/// The fuzzer's bytes, eight at a time.
pub struct Words<'i>(pub &'i [u8]);

impl Words<'_> {
    /// The next eight bytes; zeros behind the end.
    pub fn take(&mut self) -> u64 {
        let (taken, rest) = self.0.split_at(self.0.len().min(8));
        self.0 = rest;
        let mut word = [0; 8];
        word[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(word)
    }

    /// Whether there are no more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
