//! Whole swarms in memory.
