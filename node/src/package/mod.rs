//! package.
