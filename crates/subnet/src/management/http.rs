//! HTTP requests of canisters: they wait until somebody outside, who may use the network, has answered them.
//!
//! Invariants:
//! - A request is paid when it is taken on; what it did not cost goes back with the answer.
//! - Its number is that of the letter that it came with: it keeps it when the subnet is opened again.

use std::collections::BTreeMap;

use bedstone_engine::{CallInfo, Entry, Error, Message, Principal, Response};
use ic_management_canister_types::{
    HttpHeader as Header, HttpMethod, HttpRequestArgs, HttpRequestResult, TransformArgs,
};

use super::codec::encode;
use super::{ManagementCall, Reply, Waiting};
use crate::calls::{CallId, Refusal};
use crate::journal::Journal;
use crate::reject::Reject;
use crate::subnet::{Subnet, no_such_canister};

/// Largest response, and the limit of one that names none.
const RESPONSE_BYTES_MAX: u64 = 2_000_000;
/// Largest request: headers and body.
const REQUEST_BYTES_MAX: usize = 2_000_000;
const URL_BYTES_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// Longest name and longest value of a header.
const HEADER_BYTES_MAX: usize = 8192;

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A query of the asking canister that makes the reply of the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    /// The query method.
    pub method: String,
    /// Handed to it with the response.
    pub context: Vec<u8>,
}

/// An HTTP request of a canister that waits for its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingHttp {
    /// Names it.
    pub id: u64,
    /// Who asks.
    pub canister: Principal,
    /// Where.
    pub url: String,
    /// `GET`, `HEAD`, `POST`, `PUT`, `DELETE` or `PATCH`.
    pub method: &'static str,
    /// The request's headers.
    pub headers: Vec<HttpHeader>,
    /// The request's body.
    pub body: Vec<u8>,
    /// Largest response that the canister takes, headers and body, in bytes.
    pub max_response_bytes: u64,
    /// What becomes of the response.
    pub transform: Option<Transform>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Its status, e.g. 200.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<HttpHeader>,
    /// Its body.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// What counts against the limit.
    fn bytes(&self) -> u64 {
        let headers: usize = self.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        (headers + self.body.len()) as u64
    }
}

/// Requests that wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcalls(BTreeMap<CallId, (PendingHttp, Waiting)>);

impl Outcalls {
    /// Who waits.
    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.0.values().map(|(_, waiting)| waiting)
    }
}

impl Subnet {
    pub(super) fn manage_http_request(&mut self, call: &mut ManagementCall) -> Reply {
        let args: HttpRequestArgs = call.decode()?;
        let letter = call.waiting().letter().map(|(_, sent)| sent.number);
        let id = letter.expect("only canisters ask, and they send letters");
        let request = pending(id, call.caller, args)?;
        let price = self.engine.subnet().prices.http_outcall(request.bytes(), request.max_response_bytes);
        call.charge(price)?;
        let waiting = call.waiting.take().expect("nobody has taken it");
        self.outcalls.0.insert(id, (request, waiting));
        Ok(Vec::new())
    }

    /// HTTP requests of canisters that wait for [`Subnet::answer_http`], oldest first.
    pub fn http_requests(&self) -> Vec<PendingHttp> {
        self.outcalls.0.values().map(|(request, _)| request.clone()).collect()
    }

    /// Answers an HTTP request with its response, or says why there is none. The canister gets what its transform function
    /// makes of a response, in the rounds that follow. Whether there was such a request.
    ///
    /// # Errors
    /// If this machine or the store fails.
    pub fn answer_http(&mut self, id: u64, response: Result<HttpResponse, Reject>) -> Result<bool, Error> {
        let Some((request, waiting)) = self.outcalls.0.remove(&id) else { return Ok(false) };
        let reply = match response.and_then(|response| request.limit(response)) {
            Ok(response) => self.transform(&request, response)?,
            Err(reject) => Err(reject),
        };
        // In the words of whoever found it: a reject of the network has no error code of the IC.
        let payload = reply.map_err(|reject| Refusal { code: reject.code.into(), text: reject.message });
        let mut journal = Journal::begin(self.keeper());
        journal.delete_letter(id);
        self.answer_context(Principal::management_canister(), &waiting.context, payload, &mut journal);
        self.append_journal(request.canister, journal)?;
        Ok(true)
    }

    /// What the asking canister makes of a response.
    fn transform(
        &mut self,
        request: &PendingHttp,
        response: HttpResponse,
    ) -> Result<Result<Vec<u8>, Reject>, Error> {
        let response = HttpRequestResult {
            status: response.status.into(),
            headers: response
                .headers
                .into_iter()
                .map(|HttpHeader { name, value }| Header { name, value })
                .collect(),
            body: response.body,
        };
        let Some(Transform { method, context }) = &request.transform else {
            return Ok(Ok(encode(response)));
        };
        let (id, time_nanos) = (request.canister, self.time_nanos);
        let Some(canister) = self.awake(id)? else { return Ok(Err(no_such_canister(id))) };
        let arg = encode(TransformArgs { response, context: context.clone() });
        let outcome = canister.execute(&Message {
            entry: Entry::Query(method),
            arg: &arg,
            caller: Principal::management_canister(),
            time_nanos,
            call: CallInfo::default(),
        })?;
        // It may be a composite query; calls that it makes lead nowhere.
        canister.end_query_tree()?;
        Ok(match outcome.response {
            Response::Reply(bytes) if bytes.len() as u64 > RESPONSE_BYTES_MAX => {
                let text = format!("Transformed http response exceeds limit: {RESPONSE_BYTES_MAX}");
                Err(Reject { code: SYS_FATAL, error_code: 0, message: text })
            }
            Response::Reply(bytes) => Ok(bytes),
            Response::Reject(text) => Err(Reject::new(406, text)),
            Response::Trapped(fault) => Err(Reject::of_fault(&fault, id)),
            Response::None => Err(Reject::new(506, format!("Canister {id} did not produce a response"))),
        })
    }
}

/// The reject code of what cannot succeed when it is tried again.
const SYS_FATAL: u8 = 1;

impl PendingHttp {
    /// Bytes that are paid for.
    fn bytes(&self) -> u64 {
        let headers: usize = self.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        let transform =
            self.transform.as_ref().map_or(0, |transform| transform.method.len() + transform.context.len());
        (self.url.len() + headers + self.body.len() + transform) as u64
    }

    /// A response that is not too large.
    fn limit(&self, response: HttpResponse) -> Result<HttpResponse, Reject> {
        if response.bytes() <= self.max_response_bytes {
            return Ok(response);
        }
        let message = format!("Http body exceeds size limit of {} bytes.", self.max_response_bytes);
        Err(Reject { code: SYS_FATAL, error_code: 0, message })
    }
}

/// A request as it is asked for, if it may be.
fn pending(id: CallId, canister: Principal, args: HttpRequestArgs) -> Result<PendingHttp, Reject> {
    let refuse = |text: String| Err(Reject::new(406, text));
    let max_response_bytes = args.max_response_bytes.unwrap_or(RESPONSE_BYTES_MAX);
    if max_response_bytes > RESPONSE_BYTES_MAX {
        return refuse(format!(
            "max_response_bytes expected to be in the range [0..{RESPONSE_BYTES_MAX}], got {max_response_bytes}"
        ));
    }
    if args.url.len() > URL_BYTES_MAX {
        return refuse(format!("url length {} exceeds {URL_BYTES_MAX}", args.url.len()));
    }
    if args.headers.len() > HEADERS_MAX {
        return refuse(format!("number of http headers exceeds {HEADERS_MAX}"));
    }
    let long = |header: &Header| header.name.len().max(header.value.len()) > HEADER_BYTES_MAX;
    if args.headers.iter().any(long) {
        return refuse(format!("name or value of an http header exceeds {HEADER_BYTES_MAX} bytes"));
    }
    let headers: Vec<HttpHeader> =
        args.headers.into_iter().map(|Header { name, value }| HttpHeader { name, value }).collect();
    let body = args.body.unwrap_or_default();
    let header_bytes: usize = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if header_bytes + body.len() > REQUEST_BYTES_MAX {
        return refuse(format!("total number of bytes of http headers and body exceeds {REQUEST_BYTES_MAX}"));
    }
    let mut transform = None;
    if let Some(asked) = args.transform {
        let candid::Func { principal, method } = asked.function.0;
        if principal != canister {
            return refuse(format!("transform principal id expected to be {canister}, got {principal}"));
        }
        transform = Some(Transform { method, context: asked.context });
    }
    let method = match args.method {
        HttpMethod::GET => "GET",
        HttpMethod::HEAD => "HEAD",
        HttpMethod::POST => "POST",
        HttpMethod::PUT => "PUT",
        HttpMethod::DELETE => "DELETE",
        HttpMethod::PATCH => "PATCH",
    };
    Ok(PendingHttp { id, canister, url: args.url, method, headers, body, max_response_bytes, transform })
}
