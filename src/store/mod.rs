//! Where the ledger lives.
