//! Certificates: an authority of the test's own, and what it signs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Who signs certificates.
pub(crate) struct Authority {
    folder: PathBuf,
    name: String,
}

/// A certificate and its key, PEM.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new one, with its files in this folder.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let authority = Self { folder: folder.to_owned(), name: name.to_owned() };
        authority.make(name, name, &[]);
        authority
    }

    /// Its certificate, PEM: what those who trust it are given.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.file(&self.name, "pem")
    }

    /// A certificate that it signs, for a server of this name, as `IP:127.0.0.1`, or for a client.
    pub(crate) fn issue(&self, file: &str, common_name: &str, alternative: &str) -> Identity {
        let [authority, key] = ["pem", "key"].map(|end| self.file(&self.name, end).display().to_string());
        let alternative = format!("subjectAltName={alternative}");
        let leaf = ["-addext", &alternative, "-addext", "basicConstraints=critical,CA:FALSE"];
        self.make(file, common_name, &[&leaf[..], &["-CA", &authority, "-CAkey", &key]].concat())
    }

    fn make(&self, file: &str, common_name: &str, arguments: &[&str]) -> Identity {
        let identity = Identity { certificate: self.file(file, "pem"), key: self.file(file, "key") };
        let mut make = Command::new("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]);
        make.args(["-subj", &format!("/CN={common_name}")]).args(arguments);
        make.arg("-out").arg(&identity.certificate).arg("-keyout").arg(&identity.key);
        let made = make.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        identity
    }

    fn file(&self, name: &str, end: &str) -> PathBuf {
        self.folder.join(format!("{name}.{end}"))
    }
}
