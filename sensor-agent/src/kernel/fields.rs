//! Resolves the programs' globals from the running kernel's BTF. Not the table of fields: that is
//! `sensor_event::FIELDS`. It may call [`super::btf`].

use super::btf::Btf;
use super::error::KernelError;
use sensor_event::{ARGUMENTS, Argument, FIELDS, Field, Need, Parameter};

/// A global of the object and its value.
pub(super) type Resolved = (&'static str, u32);

/// Every field's global with its offset, [`Field::ABSENT`] for an optional one that is not there.
///
/// # Errors
/// [`KernelError::Field`] for a required field that is not there.
pub(super) fn resolve(btf: &Btf, release: &str) -> Result<Vec<Resolved>, KernelError> {
    FIELDS.iter().map(|field| resolve_one(btf, field, release)).collect()
}

fn resolve_one(btf: &Btf, field: &'static Field, release: &str) -> Result<Resolved, KernelError> {
    let offset = field.paths.iter().find_map(|path| btf.member_offset(path));
    match (offset, field.need) {
        (Some(offset), _) => Ok((field.global, offset)),
        (None, Need::Optional) => Ok((field.global, Field::ABSENT)),
        (None, Need::Required) => Err(KernelError::Field {
            field: field.global,
            tried: field.paths.join(", "),
            release: release.to_owned(),
        }),
    }
}

/// Every argument's global with its index, [`Argument::ABSENT`] where this kernel has no such function or parameter:
/// then its program does not attach either.
pub(super) fn resolve_arguments(btf: &Btf) -> Vec<Resolved> {
    ARGUMENTS.iter().map(|argument| (argument.global, argument_index(btf, argument))).collect()
}

fn argument_index(btf: &Btf, argument: &Argument) -> u32 {
    let (parameters, internal) = match argument.function.starts_with(TRACEPOINT_PREFIX) {
        true => (btf.typedef_function(argument.function), 1),
        false => (btf.function_parameters(argument.function), 0),
    };
    let index = parameters.and_then(|parameters| match argument.parameter {
        Parameter::Points(name) => {
            parameters.iter().position(|parameter| parameter.pointers == 1 && parameter.type_name == name)
        }
        Parameter::Named(name) => parameters.iter().position(|parameter| parameter.name == name),
        Parameter::Return => Some(parameters.len()),
        Parameter::ReturnsPointer => {
            btf.function_result(argument.function).filter(|result| result.pointers > 0).map(|_| 1)
        }
    });
    index.and_then(|index| u32::try_from(index.checked_sub(internal)?).ok()).unwrap_or(Argument::ABSENT)
}

/// What the type of a tracepoint's function is called.
const TRACEPOINT_PREFIX: &str = "btf_trace_";

/// Whether `sched_process_exit` tells if the whole process ends: `(void *, task, bool)` instead of
/// `(void *, task)`.
pub(super) fn exit_has_group_dead(btf: &Btf) -> bool {
    btf.typedef_parameters("btf_trace_sched_process_exit").is_some_and(|parameters| parameters >= 3)
}

/// Bit of `linux_binprm.secureexec`, a bit field; [`Field::ABSENT`] when there is none.
pub(super) fn secureexec_bit(btf: &Btf) -> u32 {
    btf.member_bits("linux_binprm.secureexec").unwrap_or(Field::ABSENT)
}

/// Bit of `task_struct.in_execve`, a bit field; [`Field::ABSENT`] when there is none.
pub(super) fn in_execve_bit(btf: &Btf) -> u32 {
    btf.member_bits("task_struct.in_execve").unwrap_or(Field::ABSENT)
}

/// Whether a dentry's members lie as `Link` of `sensor-ebpf/src/verdicts.rs` has them: not so where the kernel's build
/// has shuffled them (`CONFIG_RANDSTRUCT`). Then no verdict is remembered.
pub(super) fn has_dentry_layout(btf: &Btf) -> bool {
    let Some(parent) = btf.member_offset("dentry.d_parent") else { return false };
    [("dentry.d_name.len", 12), ("dentry.d_name.name", 16), ("dentry.d_inode", 24)]
        .iter()
        .all(|(member, distance)| btf.member_offset(member) == Some(parent + distance))
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
