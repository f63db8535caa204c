//! What the fuzz targets run. Not the fuzzer. It may call the agent and the contract.

pub mod targets;
