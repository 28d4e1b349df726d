//! The block `[admin]`: where the program answers questions about itself, and whom.

use std::net::SocketAddr;
use std::time::Duration;

use super::block::{Block, Placed};
use super::text::{FilePath, Text};

/// A token that is shorter could be guessed.
const TOKEN_BYTES: usize = 16;

/// `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where it listens.
    pub listen: AdminAddress,
    /// What a client has to show; none asks for nothing, which a loopback address and a Unix socket alone may do.
    pub token: Option<Text>,
    /// The largest body of a request that carries a module, bytes.
    pub max_body_bytes: usize,
    /// How long a connection may last, from its first byte to its last.
    pub timeout: Duration,
}

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// An address; port 0 is any free one.
    Tcp(SocketAddr),
    /// A Unix socket, which the user of this process alone can reach.
    Unix(FilePath),
}

impl Admin {
    /// Whether this machine alone reaches it.
    pub fn is_local(&self) -> bool {
        match &self.listen {
            AdminAddress::Tcp(address) => address.ip().is_loopback(),
            AdminAddress::Unix(_) => true,
        }
    }
}

pub(super) fn read(root: &mut Block<'_>) -> Option<Admin> {
    let mut block = root.block("admin")?;
    let document = block.document();
    let listen = block.text("listen");
    let listen = block.required("listen", listen, "give it, as `listen = \"127.0.0.1:9400\"`");
    let listen = listen.and_then(|Placed { value, place }| match value.strip_prefix("unix:") {
        Some("") => {
            document.problem(&place, "the socket has no path", "give it, as `unix:/run/tidegate.sock`");
            None
        }
        Some(_) => Some(Placed { value: AdminAddress::Unix(socket(&value, document.lookup.folder)), place }),
        None => match value.parse() {
            Ok(address) => Some(Placed { value: AdminAddress::Tcp(address), place }),
            Err(_) => {
                let cause = format!("`{}` is no address", value.shown());
                document.problem(&place, cause, "write `127.0.0.1:9400`, `[::1]:9400` or `unix:/path`");
                None
            }
        },
    });
    let token = block.text("token").and_then(|Placed { value, place }| {
        if value.len() >= TOKEN_BYTES && value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(value);
        }
        let cause = format!("the token is no {TOKEN_BYTES} or more visible ASCII characters");
        document.problem(&place, cause, "make one, as with `openssl rand -hex 32`");
        None
    });
    if let Some(Placed { value: AdminAddress::Tcp(address), place }) = &listen
        && !address.ip().is_loopback()
        && token.is_none()
        && !block.names().iter().any(|name| name == "token")
    {
        let cause = format!("{address} can be reached from other machines, and there is no `token`");
        document.problem(place, cause, "set `token`, or listen on 127.0.0.1 or on a Unix socket");
    }
    let mebibytes = block.number("max_body_mb", &(1..=1024)).unwrap_or(32);
    let seconds = block.number("timeout_seconds", &(1..=3600)).unwrap_or(30);
    block.finish("key");
    Some(Admin {
        listen: listen?.value,
        token,
        max_body_bytes: usize::try_from(mebibytes << 20).unwrap_or(usize::MAX),
        timeout: Duration::from_secs(seconds),
    })
}

/// The path behind `unix:`, relative to the folder of the file.
fn socket(text: &Text, folder: &std::path::Path) -> FilePath {
    FilePath::new(&text.without_prefix("unix:"), folder)
}
