//! What must hold for any bytes. Not where the bytes come from: the fuzzer, and the agent's test of the committed
//! corpora, which includes this file. It may call the agent and the contract.

use sensor_agent::event::Event;
use sensor_agent::kernel::btf::Btf;
use sensor_event::{ARGUMENTS, FIELDS};

/// A record is decoded or refused, and what is decoded becomes an event with texts of one line.
pub fn decode(bytes: &[u8]) {
    let Ok(record) = sensor_event::decode(bytes) else { return };
    assert_eq!(record.header.len as usize, bytes.len(), "a record is as long as it says");
    let event = Event::from_record(&record);
    let text = format!("{event:?}");
    assert!(!text.contains('\n'), "texts are escaped: {text}");
    assert_eq!(event, Event::from_record(&record), "the same record is the same event");
}

/// BTF is read or refused, and every look-up that the agent makes has an answer.
pub fn btf(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else { return };
    for path in FIELDS.iter().flat_map(|field| field.paths) {
        let bits = btf.member_bits(path);
        let expected = bits.and_then(|bits| bits.is_multiple_of(8).then_some(bits / 8));
        assert_eq!(btf.member_offset(path), expected, "{path}");
        if let Some((name, _)) = path.split_once('.') {
            let _size: Option<u32> = btf.struct_size(name);
        }
    }
    for argument in ARGUMENTS {
        let parameters = btf.function_parameters(argument.function);
        assert_eq!(
            parameters.is_some(),
            btf.function_result(argument.function).is_some(),
            "{}",
            argument.function
        );
        let _index: Option<usize> = btf.parameter_index(argument.function, "dentry");
    }
    for tracepoint in ["btf_trace_sched_process_exit", "btf_trace_x"] {
        let counted = btf.typedef_parameters(tracepoint);
        let parameters = btf.typedef_function(tracepoint).map(|parameters| parameters.len());
        assert!(parameters.is_none() || parameters == counted, "{tracepoint}");
    }
}
