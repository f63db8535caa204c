//! What BTF says about functions: their parameters, by name and type. Not their addresses, and not whether a
//! program may attach to them. It may call [`super`] only.

use super::{
    Btf, DEPTH_MAX, KIND_CONST, KIND_FUNC_PROTO, KIND_PTR, KIND_RESTRICT, KIND_TYPE_TAG, KIND_TYPEDEF,
    KIND_VOLATILE, PARAMETER_BYTES, TYPE_BYTES, Type,
};

/// Parameters of a function that are told: trampolines pass at most 12 (`MAX_BPF_FUNC_ARGS` of `include/linux/bpf.h`).
const PARAMETERS_MAX: usize = 64;

/// Functions of one name that are compared: static ones of one header have been seen a few dozen times.
const NAMESAKES_MAX: usize = 1024;

/// A parameter of a kernel function. Kernels rename them, so the type tells more than the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name; empty when BTF has none (tracepoints' `void *` context) and for the `...` of a variadic function.
    pub name: String,
    /// Name of its type without qualifiers, pointers and the word `struct`: `dentry` for
    /// `const struct dentry *`, `umode_t`, `bool`; `void` for `void *`; empty for a type without a name (a pointer
    /// to a function).
    pub type_name: String,
    /// How many pointers lead to that type: 1 for `struct inode *`, 2 for `struct inode **`.
    pub pointers: usize,
}

impl Btf {
    /// The parameters of the kernel function `name`, static or global, in order. Their count is also the index of
    /// the return value in a fexit program's context. `None` when there is no such function, or several that do
    /// not agree: nobody could say to which of them a program attaches.
    #[must_use]
    pub fn function_parameters(&self, name: &str) -> Option<Vec<Parameter>> {
        Some(self.function(name)?.0)
    }

    /// What the kernel function `name` returns, as a [`Parameter`] without a name: `int`, or 1 pointer to `dentry`
    /// for `vfs_mkdir` since 6.15. `None` as for [`Self::function_parameters`].
    #[must_use]
    pub fn function_result(&self, name: &str) -> Option<Parameter> {
        Some(self.function(name)?.1)
    }

    /// Parameters and result.
    fn function(&self, name: &str) -> Option<(Vec<Parameter>, Parameter)> {
        let mut found = None;
        let mut namesakes = 0;
        for id in &self.functions {
            let function = self.get(*id)?;
            if self.string(function.name) != name.as_bytes() {
                continue;
            }
            namesakes += 1;
            let prototype = self.get(function.size_or_type)?;
            let shape = (self.parameters(prototype)?, self.parameter(0, prototype.size_or_type)?);
            if found.as_ref().is_some_and(|known| *known != shape) || namesakes > NAMESAKES_MAX {
                return None;
            }
            found = Some(shape);
        }
        found
    }

    /// Index of the first parameter of the function `name` that is a pointer to `type_name`: where
    /// `vfs_unlink` has its `dentry`. `None` when the function is not known, or has no such parameter.
    #[must_use]
    pub fn parameter_index(&self, name: &str, type_name: &str) -> Option<usize> {
        let parameters = self.function_parameters(name)?;
        parameters.iter().position(|parameter| parameter.pointers == 1 && parameter.type_name == type_name)
    }

    /// The parameters of the function that the typedef `name` points to: `btf_trace_*`, whose first one is the
    /// tracepoint's `void *`.
    #[must_use]
    pub fn typedef_function(&self, name: &str) -> Option<Vec<Parameter>> {
        self.parameters(self.typedef_prototype(name)?)
    }

    /// Number of parameters of the function that the typedef `name` points to.
    #[must_use]
    pub fn typedef_parameters(&self, name: &str) -> Option<usize> {
        Some(self.typedef_prototype(name)?.vlen())
    }

    fn typedef_prototype(&self, name: &str) -> Option<Type> {
        let mut kind = self.get(*self.typedefs.get(name.as_bytes())?)?;
        for _ in 0..DEPTH_MAX {
            match kind.kind() {
                KIND_FUNC_PROTO => return Some(kind),
                KIND_TYPEDEF | KIND_PTR | KIND_CONST => kind = self.get(kind.size_or_type)?,
                _ => return None,
            }
        }
        None
    }

    fn parameters(&self, prototype: Type) -> Option<Vec<Parameter>> {
        if prototype.kind() != KIND_FUNC_PROTO || prototype.vlen() > PARAMETERS_MAX {
            return None;
        }
        (0..prototype.vlen())
            .map(|index| {
                let at = prototype.at + TYPE_BYTES + index * PARAMETER_BYTES;
                self.parameter(self.u32_at(at)?, self.u32_at(at + 4)?)
            })
            .collect()
    }

    fn parameter(&self, name: u32, id: u32) -> Option<Parameter> {
        let (type_name, pointers) = self.type_name(id)?;
        let name = String::from_utf8_lossy(self.string(name)).into_owned();
        Some(Parameter { name, type_name, pointers })
    }

    /// The first name behind pointers and qualifiers, and how many pointers there were.
    fn type_name(&self, id: u32) -> Option<(String, usize)> {
        let mut id = id;
        let mut pointers = 0;
        for _ in 0..DEPTH_MAX {
            if id == 0 {
                return Some(("void".to_owned(), pointers));
            }
            let kind = self.get(id)?;
            match kind.kind() {
                KIND_PTR => pointers += 1,
                KIND_CONST | KIND_VOLATILE | KIND_RESTRICT | KIND_TYPE_TAG => {}
                _ => return Some((String::from_utf8_lossy(self.string(kind.name)).into_owned(), pointers)),
            }
            id = kind.size_or_type;
        }
        None
    }
}
