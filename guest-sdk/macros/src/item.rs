//! The item under an attribute, as far as the macros must know it.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// What an attribute stands on.
pub(crate) struct Item {
    tokens: Vec<TokenTree>,
    pub(crate) kind: Kind,
    /// Where an error is shown: at the item's name.
    name: Span,
}

/// Which form an item has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `struct Name { … }`
    Fields,
    /// `struct Name;`
    Unit,
    /// `struct Name(…);`
    Tuple,
    /// `enum Name { … }`
    Enum,
}

impl Item {
    /// Recognises a struct or an enum; anything else is an error.
    pub(crate) fn parse(item: TokenStream) -> Result<Self, TokenStream> {
        let tokens: Vec<TokenTree> = item.into_iter().collect();
        let keyword = tokens.iter().position(|token| is_word(token, "struct") || is_word(token, "enum"));
        let Some((at, name)) = keyword.and_then(|at| Some((at, tokens.get(at + 1)?.span()))) else {
            let span = tokens.first().map_or_else(Span::call_site, TokenTree::span);
            return Err(error(span, "this attribute stands on a struct or an enum"));
        };
        let kind = if is_word(&tokens[at], "enum") {
            Kind::Enum
        } else {
            match tokens.last() {
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => Kind::Fields,
                _ if tokens[at..].iter().any(|token| is_group(token, Delimiter::Parenthesis)) => Kind::Tuple,
                _ => Kind::Unit,
            }
        };
        Ok(Self { tokens, kind, name })
    }

    /// The item behind attributes of ours.
    pub(crate) fn after(self, attributes: &str) -> TokenStream {
        // The text is a literal of this crate, so it always parses.
        let mut stream: TokenStream = attributes.parse().unwrap_or_default();
        stream.extend(self.tokens);
        stream
    }

    /// Makes serde refuse a missing column where the field is an `Option`, which it would read as none: a field with a
    /// `deserialize_with` has no such default. Fields that say something of the kind themselves are left alone.
    pub(crate) fn with_required_options(mut self) -> Self {
        if let Some(TokenTree::Group(body)) = self.tokens.pop() {
            let fields: TokenStream = split_fields(body.stream()).into_iter().flat_map(require).collect();
            let mut group = Group::new(Delimiter::Brace, fields);
            group.set_span(body.span());
            self.tokens.push(TokenTree::Group(group));
        }
        self
    }

    pub(crate) fn error(&self, message: &str) -> TokenStream {
        error(self.name, message)
    }
}

/// The attributes take no arguments.
pub(crate) fn without_arguments(name: &str, arguments: TokenStream) -> Result<(), TokenStream> {
    match arguments.into_iter().next() {
        Some(token) => Err(error(token.span(), &format!("`#[{name}]` takes no arguments"))),
        None => Ok(()),
    }
}

/// The tokens of each field, with the comma behind it. A comma between angle brackets does not end a field.
fn split_fields(body: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut fields = vec![Vec::new()];
    let (mut depth, mut after_minus) = (0usize, false);
    for token in body {
        let mut ends = false;
        if let TokenTree::Punct(punct) = &token {
            match punct.as_char() {
                '<' => depth += 1,
                '>' if !after_minus => depth = depth.saturating_sub(1),
                ',' => ends = depth == 0,
                _ => {}
            }
            after_minus = punct.as_char() == '-';
        } else {
            after_minus = false;
        }
        if let Some(field) = fields.last_mut() {
            field.push(token);
        }
        if ends {
            fields.push(Vec::new());
        }
    }
    fields
}

/// Puts `#[serde(deserialize_with = …)]` before a field that is an `Option`.
fn require(field: Vec<TokenTree>) -> Vec<TokenTree> {
    let colon = field.iter().position(|token| is_punct(token, ':'));
    let Some((before, of)) = colon.map(|at| field.split_at(at)) else { return field };
    let is_option = of.iter().take_while(|token| !is_punct(token, '<')).any(|token| is_word(token, "Option"));
    if !is_option || before.iter().any(decides_itself) {
        return field;
    }
    let path = "::tidegate_sdk::guest::required";
    let arguments = [
        TokenTree::Ident(Ident::new("deserialize_with", Span::call_site())),
        TokenTree::Punct(Punct::new('=', Spacing::Alone)),
        TokenTree::Literal(Literal::string(path)),
    ];
    let attribute = [
        TokenTree::Ident(Ident::new("serde", Span::call_site())),
        TokenTree::Group(Group::new(Delimiter::Parenthesis, arguments.into_iter().collect())),
    ];
    let hash = TokenTree::Punct(Punct::new('#', Spacing::Alone));
    let attribute = TokenTree::Group(Group::new(Delimiter::Bracket, attribute.into_iter().collect()));
    [hash, attribute].into_iter().chain(field).collect()
}

/// Whether an attribute of a field says how it is read, or what it is when it is missing.
fn decides_itself(attribute: &TokenTree) -> bool {
    const WORDS: [&str; 7] = ["default", "with", "deserialize_with", "flatten", "skip", "skip_deserializing", "borrow"];
    let TokenTree::Group(group) = attribute else { return false };
    let mut tokens = group.stream().into_iter();
    let is_serde = tokens.next().is_some_and(|token| is_word(&token, "serde"));
    let Some(TokenTree::Group(arguments)) = tokens.next().filter(|_| is_serde) else { return false };
    arguments.stream().into_iter().any(|token| WORDS.iter().any(|word| is_word(&token, word)))
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == word)
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_group(token: &TokenTree, delimiter: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == delimiter)
}

/// `::core::compile_error! { "message" }`, shown at a place of the author's code.
fn error(span: Span, message: &str) -> TokenStream {
    let mut text = Literal::string(message);
    text.set_span(span);
    let body = Group::new(Delimiter::Brace, TokenTree::Literal(text).into());
    let mut tokens: Vec<TokenTree> =
        "::core::compile_error!".parse::<TokenStream>().unwrap_or_default().into_iter().collect();
    tokens.push(TokenTree::Group(body));
    for token in &mut tokens {
        token.set_span(span);
    }
    tokens.into_iter().collect()
}
