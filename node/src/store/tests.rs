//! The store as a whole: kills, damage, full disks.
