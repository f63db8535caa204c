//! Resolves the programs' globals from the running kernel's BTF. Not the table of fields: that is
//! `sensor_event::FIELDS`. It may call [`super::btf`].

use super::btf::Btf;
use super::error::KernelError;
use sensor_event::{FIELDS, Field, Need};

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

/// Whether `sched_process_exit` tells if the whole process ends: `(void *, task, bool)` instead of
/// `(void *, task)`.
pub(super) fn exit_has_group_dead(btf: &Btf) -> bool {
    btf.typedef_parameters("btf_trace_sched_process_exit").is_some_and(|parameters| parameters >= 3)
}

/// Bit of `linux_binprm.secureexec`, a bit field; [`Field::ABSENT`] when there is none.
pub(super) fn secureexec_bit(btf: &Btf) -> u32 {
    btf.member_bits("linux_binprm.secureexec").unwrap_or(Field::ABSENT)
}

#[cfg(test)]
mod tests {
    use super::{Btf, Field, Need, resolve, resolve_one};

    fn btf() -> Btf {
        Btf::parse(super::super::btf::tests::sample()).expect("the sample is BTF")
    }

    const fn field(paths: &'static [&'static str], need: Need) -> Field {
        Field { global: "GLOBAL", paths, need }
    }

    #[test]
    fn renamed_member_is_found_by_its_other_name() {
        static FIELD: Field = field(&["outer.renamed", "outer.a"], Need::Required);
        assert_eq!(resolve_one(&btf(), &FIELD, "6.1").expect("it is there"), ("GLOBAL", 4));
    }

    #[test]
    fn missing_optional_field_is_absent() {
        static FIELD: Field = field(&["outer.missing"], Need::Optional);
        assert_eq!(resolve_one(&btf(), &FIELD, "6.1").expect("it is optional"), ("GLOBAL", Field::ABSENT));
    }

    #[test]
    fn missing_required_field_is_named_with_type_and_kernel() {
        static FIELD: Field = field(&["outer.missing", "other.first"], Need::Required);
        let error = resolve_one(&btf(), &FIELD, "6.1.0-test").expect_err("it is required").to_string();
        for part in ["6.1.0-test", "GLOBAL", "outer.missing", "other.first"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(resolve(&btf(), "6.1").is_err(), "this is no kernel");
    }
}
