//! What the command is about, noun by noun.

pub(crate) mod marketplace;
