//! Tests of the encoding and the chain.

use super::*;
use crate::model::{
    Actor, Body, Evidence, Gate, GateWord, Move, MoveKind, Name, Observed, ProposalEnd, RegionEvidence, RegionHealth, RegionId,
};
use proptest::prelude::*;

