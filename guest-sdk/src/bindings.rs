//! What wit-bindgen makes of `wit/transform.wit`: the types that cross the boundary, and the macro that exports them.
//! Authors use the types of this crate instead; only `export!` reaches in here.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]
#![allow(clippy::needless_pass_by_value, clippy::semicolon_if_nothing_returned, clippy::uninlined_format_args)]
// The generated code reads and writes the linear memory as the component model's canonical ABI lays it out.
#![allow(unsafe_code)]

wit_bindgen::generate!({
    path: "wit",
    world: "transform",
    pub_export_macro: true,
    export_macro_name: "export_transform",
    default_bindings_module: "tidegate_sdk::bindings",
    generate_unused_types: true,
});
