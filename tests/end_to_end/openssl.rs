//! Keys and certificates, made by the program that operators use.

use std::path::Path;
use std::process::Command;

/// Files of a server that a test authority vouches for.
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An authority, and a certificate of its for 127.0.0.1.
pub(crate) fn certificates(dir: &Path) -> Certificates {
    let file = |name: &str| dir.join(name).display().to_string();
    let authority = file("authority.pem");
    let authority_key = file("authority-key.pem");
    let certificate = file("server.pem");
    let key = file("server-key.pem");
    let new = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ];
    let authority_name =
        ["-subj", "/CN=test authority", "-addext", "basicConstraints=critical,CA:TRUE"];
    openssl(
        &[&new[..], &authority_name, &["-out", &authority, "-keyout", &authority_key]].concat(),
    );
    let server_name = ["-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1"];
    let not_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let signed =
        ["-CA", &authority, "-CAkey", &authority_key, "-out", &certificate, "-keyout", &key];
    openssl(&[&new[..], &server_name, &not_authority, &signed].concat());
    Certificates { authority, certificate, key }
}

/// A private key in PKCS #8 PEM, and its public key in PEM; `algorithm` as `openssl genpkey` calls
/// it.
pub(crate) fn key_pair(dir: &Path, algorithm: &str, options: &[&str]) -> (String, String) {
    let private = dir.join("private.pem");
    let public = dir.join("public.pem");
    let private_path = private.display().to_string();
    let public_path = public.display().to_string();
    let mut generate = vec!["genpkey", "-algorithm", algorithm, "-out", &private_path];
    for option in options {
        generate.extend(["-pkeyopt", option]);
    }
    openssl(&generate);
    openssl(&["pkey", "-in", &private_path, "-pubout", "-out", &public_path]);
    (std::fs::read_to_string(private).unwrap(), std::fs::read_to_string(public).unwrap())
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap_or_else(|_| {
        panic!("this test needs openssl: install it (Debian: apt-get install openssl)")
    });
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
