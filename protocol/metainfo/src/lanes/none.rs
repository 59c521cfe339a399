//! What stands for processor extensions where there are none that we know.

use super::Block;

/// Says that the processor has extensions, which it has not: there is no such value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ShaExtensions {}

impl ShaExtensions {
    pub(crate) const fn detect() -> Option<Self> {
        None
    }

    pub(super) fn sha1<const N: usize>(self, _: [&mut [u32; 5]; N], _: [&[Block]; N]) {
        match self {}
    }

    pub(super) fn sha256<const N: usize>(self, _: [&mut [u32; 8]; N], _: [&[Block]; N]) {
        match self {}
    }
}
