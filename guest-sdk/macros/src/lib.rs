//! The attribute macros of tidegate-sdk. They put derives and serde's attributes before an item, so that an author
//! needs neither a dependency on serde nor a word about where its path is. They read tokens only: no parser, no
//! quoting library, nothing that an author's build must wait for.

mod item;

use proc_macro::TokenStream;

use item::{Item, Kind};

/// Makes a struct a type of rows: it can be read from a change and written by a command.
///
/// Each field is a column under its name; `#[serde(rename = "…")]` and serde's other attributes work. An `Option` is a
/// column that may be null, not one that may be missing: a column that is not in the row is an error that names it,
/// unless the field says `#[serde(default)]`. A column that may come without its value is a `Column<…>`.
///
/// It derives `Debug`, `Clone`, `PartialEq` and serde's two traits. An enum may have it too, as the type of a column
/// with a few known values.
#[proc_macro_attribute]
pub fn row(arguments: TokenStream, item: TokenStream) -> TokenStream {
    item::without_arguments("row", arguments)
        .and_then(|()| Item::parse(item))
        .and_then(|item| match item.kind {
            Kind::Fields => Ok(item.with_required_options().after(
                "#[derive(::std::fmt::Debug, ::std::clone::Clone, ::std::cmp::PartialEq, \
                 ::tidegate_sdk::serde::Serialize, ::tidegate_sdk::serde::Deserialize)] \
                 #[serde(crate = \"::tidegate_sdk::serde\")]",
            )),
            Kind::Enum => Ok(item.after(
                "#[derive(::std::fmt::Debug, ::std::clone::Clone, ::std::cmp::PartialEq, \
                 ::tidegate_sdk::serde::Serialize, ::tidegate_sdk::serde::Deserialize)] \
                 #[serde(crate = \"::tidegate_sdk::serde\")]",
            )),
            _ => Err(item.error("a row has named columns: write `struct Name { column: Type, … }`")),
        })
        .unwrap_or_else(|error| error)
}

/// Makes a struct the settings of a transform: it is read from the `settings` of the pipeline, a setting a field.
///
/// A setting that the struct does not have is an error, so is one that is missing, unless its field is an `Option` or
/// says `#[serde(default)]` or `#[serde(default = "function")]`. A transform without settings is a `struct Name {}`.
///
/// It derives `Debug`, `Clone` and serde's `Deserialize`.
#[proc_macro_attribute]
pub fn settings(arguments: TokenStream, item: TokenStream) -> TokenStream {
    item::without_arguments("settings", arguments)
        .and_then(|()| Item::parse(item))
        .and_then(|item| match item.kind {
            Kind::Fields => Ok(item.after(
                "#[derive(::std::fmt::Debug, ::std::clone::Clone, ::tidegate_sdk::serde::Deserialize)] \
                 #[serde(crate = \"::tidegate_sdk::serde\", deny_unknown_fields)]",
            )),
            Kind::Unit => Err(item.error("settings are an object: a transform without any is a `struct Name {}`")),
            _ => Err(item.error("settings have names: write `struct Name { setting: Type, … }`")),
        })
        .unwrap_or_else(|error| error)
}
