//! What a bare guest and its VMM agree on.
#![no_std]
