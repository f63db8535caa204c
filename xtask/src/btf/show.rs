//! Shows what functions and structs look like in the kernels of the fixtures, for whoever writes a hook. Not a
//! declaration in C that compiles. It may call the model.

use super::model::{
    ARRAY, CONST, FUNC, FUNC_PROTO, Model, PTR, RESTRICT, STRUCT, TYPE_TAG, TYPEDEF, Tail, Type, UNION,
    VOLATILE,
};
use std::collections::BTreeMap;
use std::fmt::Write;

/// References that are followed for one name.
const DEPTH_MAX: usize = 32;

/// One line per shape that a name has, with the kernels that have it.
pub(super) fn show(kernels: &[(String, Model)], is_wanted: &dyn Fn(&[u8]) -> bool) -> String {
    let mut shapes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (kernel, model) in kernels {
        for one in model.types.iter().filter(|one| is_wanted(&one.name)) {
            if let Some(shape) = shape(model, one) {
                let kernels = shapes.entry(shape).or_default();
                if kernels.last() != Some(&kernel.as_str()) {
                    kernels.push(kernel);
                }
            }
        }
    }
    shapes.into_iter().fold(String::new(), |mut text, (shape, kernels)| {
        writeln!(text, "{shape}    [{}]", kernels.join(" ")).expect("a text grows");
        text
    })
}

fn shape(model: &Model, one: &Type) -> Option<String> {
    let name = String::from_utf8_lossy(&one.name);
    let prototype = match one.kind() {
        FUNC => model.get(one.size_or_type)?,
        TYPEDEF => {
            let pointer = model.get(one.size_or_type)?;
            model.get(pointer.size_or_type).filter(|to| pointer.kind() == PTR && to.kind() == FUNC_PROTO)?
        }
        STRUCT | UNION => return Some(members(model, one)),
        _ => return None,
    };
    let Tail::Parameters(parameters) = &prototype.tail else { return None };
    let parameters: Vec<String> =
        parameters.iter().map(|(parameter, id)| declare(model, *id, parameter)).collect();
    Some(format!("{} {name}({})", declare(model, prototype.size_or_type, b""), parameters.join(", ")))
}

fn members(model: &Model, one: &Type) -> String {
    let mut text = format!("{} {} bytes:", String::from_utf8_lossy(&one.name), one.size_or_type);
    let Tail::Members(members) = &one.tail else { return text };
    for (name, id, offset) in members {
        // With bit fields about, the upper byte is the member's width.
        let bits = if one.info >> 31 == 1 { offset & 0x00ff_ffff } else { *offset };
        write!(text, "\n    {:>5}.{} {}", bits / 8, bits % 8, declare(model, *id, name))
            .expect("a text grows");
    }
    text
}

/// A type and the name of what has it.
fn declare(model: &Model, id: u32, name: &[u8]) -> String {
    let mut id = id;
    let mut pointers = String::new();
    let mut array = String::new();
    let mut base = "void".to_owned();
    for _ in 0..DEPTH_MAX {
        let Some(one) = model.get(id) else { break };
        match (one.kind(), &one.tail) {
            (PTR, _) => pointers.push('*'),
            (CONST | VOLATILE | RESTRICT | TYPE_TAG, _) => {}
            (ARRAY, Tail::Words(words)) => {
                array = format!("{array}[{}]", words.get(2).copied().unwrap_or_default());
                id = words.first().copied().unwrap_or_default();
                continue;
            }
            (kind, _) => {
                base = match (kind, one.name.as_slice()) {
                    (FUNC_PROTO, _) => "(function)".to_owned(),
                    (_, b"") => "(anonymous)".to_owned(),
                    (_, name) => String::from_utf8_lossy(name).into_owned(),
                };
                break;
            }
        }
        id = one.size_or_type;
    }
    format!("{base} {pointers}{}{array}", String::from_utf8_lossy(name)).trim_end().to_owned()
}
