//! A canister's Candid interface: text arguments to bytes and reply bytes to text.

use candid::types::{Function, TypeInner};
use candid::{IDLArgs, TypeEnv};
use candid_parser::parse_idl_args;
use candid_parser::utils::CandidSource;

use crate::error::Error;

/// The types and methods of a `.did` text.
#[derive(Debug, Clone)]
pub struct Interface {
    types: TypeEnv,
    actor: Option<candid::types::Type>,
}

impl Interface {
    /// Reads a `.did` text.
    ///
    /// # Errors
    /// If the text is not Candid.
    pub fn parse(did: &str) -> Result<Self, Error> {
        let (types, actor) = CandidSource::Text(did)
            .load()
            .map_err(|error| Error::Candid(format!("the Candid interface cannot be read: {error}")))?;
        Ok(Self { types, actor })
    }

    fn method(&self, name: &str) -> Option<Function> {
        self.types.get_method(self.actor.as_ref()?, name).ok().cloned()
    }

    /// Names of the methods, in the interface's order.
    pub fn methods(&self) -> Vec<String> {
        let Some(actor) = &self.actor else { return Vec::new() };
        match self.types.as_service(actor) {
            Ok(methods) => methods.iter().map(|(name, _)| name.clone()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Whether a method is a query; `None` if there is no such method.
    pub fn is_query(&self, method: &str) -> Option<bool> {
        Some(self.method(method)?.is_query())
    }

    /// Encodes an argument in Candid text, e.g. `(1 : nat, "two")`, for a method.
    ///
    /// # Errors
    /// If the text is not Candid or does not have the method's types.
    pub fn encode(&self, method: &str, text: &str) -> Result<Vec<u8>, Error> {
        let args = parse(text)?;
        let Some(function) = self.method(method) else { return untyped(&args) };
        let types = function.args.to_vec();
        args.to_bytes_with_types(&self.types, &types).map_err(|error| {
            Error::Candid(format!(
                "the argument of {method} does not have the types {}: {error}",
                show(&types)
            ))
        })
    }

    /// Encodes the argument of `canister_init` or `canister_post_upgrade`.
    ///
    /// # Errors
    /// If the text is not Candid or does not have the service's argument types.
    pub fn encode_init(&self, text: &str) -> Result<Vec<u8>, Error> {
        let args = parse(text)?;
        let types = match self.actor.as_ref().map(AsRef::as_ref) {
            Some(TypeInner::Class(args, _)) => args.to_vec(),
            _ => Vec::new(),
        };
        if types.is_empty() {
            return untyped(&args);
        }
        args.to_bytes_with_types(&self.types, &types).map_err(|error| {
            Error::Candid(format!("the init argument does not have the types {}: {error}", show(&types)))
        })
    }

    /// Shows a method's reply as Candid text.
    ///
    /// # Errors
    /// If the bytes are not Candid or not what the method returns.
    pub fn decode(&self, method: &str, reply: &[u8]) -> Result<String, Error> {
        let Some(function) = self.method(method) else { return Self::decode_untyped(reply) };
        let types = function.rets.to_vec();
        IDLArgs::from_bytes_with_types(reply, &self.types, &types)
            .map(|args| args.to_string())
            .map_err(|error| Error::Candid(format!("the reply of {method} does not have its types: {error}")))
    }

    /// Encodes Candid text without an interface.
    ///
    /// # Errors
    /// If the text is not Candid.
    pub fn encode_untyped(text: &str) -> Result<Vec<u8>, Error> {
        untyped(&parse(text)?)
    }

    /// Shows Candid bytes without an interface: field names appear as hashes.
    ///
    /// # Errors
    /// If the bytes are not Candid.
    pub fn decode_untyped(reply: &[u8]) -> Result<String, Error> {
        IDLArgs::from_bytes(reply)
            .map(|args| args.to_string())
            .map_err(|error| Error::Candid(format!("the reply is not Candid: {error}")))
    }
}

fn parse(text: &str) -> Result<IDLArgs, Error> {
    parse_idl_args(text).map_err(|error| {
        Error::Candid(format!("the argument {text:?} is not Candid text such as (1, \"two\"): {error}"))
    })
}

fn untyped(args: &IDLArgs) -> Result<Vec<u8>, Error> {
    args.to_bytes().map_err(|error| Error::Candid(format!("the argument cannot be encoded: {error}")))
}

fn show(types: &[candid::types::Type]) -> String {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    format!("({})", types.join(", "))
}
