//! The `sensor.v1` protocol: messages, clients and servers generated from the `.proto` files next to `src/`. It is
//! not a place for logic or conversions: those live with the crate that needs them. It may call prost and tonic.
//!
//! `docs/protocol.md` says who sends which frame when. `cargo xtask codegen` regenerates `src/generated/`.

/// Package `sensor.v1`.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated code: the .proto files carry the comments"
)]
pub mod v1 {
    include!("generated/sensor.v1.rs");
}
