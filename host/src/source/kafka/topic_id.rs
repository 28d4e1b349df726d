//! Asks the brokers for the ids and the partitions of topics. A topic that is deleted and made again has another id.
//!
//! The crate `rdkafka` does not wrap this request, so that librdkafka is called here. Each handle is owned by a value that
//! gives it back.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as raw;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::context::Context;
use crate::source::TopicFacts;

/// How much longer than the brokers the client may take to say that they have not answered.
const GRACE: Duration = Duration::from_millis(250);

/// A handle of librdkafka, and what gives it back.
struct Owned<T> {
    handle: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes a handle that nobody else gives back, and that `destroy` is for.
    fn of(handle: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> KafkaResult<Self> {
        let handle = NonNull::new(handle).ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut))?;
        Ok(Self { handle, destroy })
    }

    fn get(&self) -> *mut T {
        self.handle.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the handle came from librdkafka with this function to give it back, it is not null, only this value
        // has it, and a value is dropped once.
        #[allow(unsafe_code)]
        unsafe {
            (self.destroy)(self.get());
        }
    }
}

/// The id of a topic. None where nobody tells: what depends on it is then found out later, or by other signs.
pub(super) fn of(client: &BaseConsumer<Context>, topic: &str, patience: Duration) -> Option<String> {
    match describe(client, &[topic], patience) {
        Ok(mut found) => found.remove(topic)?.id,
        Err(error) => {
            tracing::debug!(topic, "cannot ask for the id of the topic: {error}");
            None
        }
    }
}

/// What the brokers say of these topics, by name. One that they do not have, or do not show, is left out; where they give
/// topics no ids, there is none.
///
/// # Errors
/// When they do not answer in time.
pub(super) fn describe(
    client: &BaseConsumer<Context>,
    topics: &[&str],
    patience: Duration,
) -> KafkaResult<BTreeMap<String, TopicFacts>> {
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let unknown = |_| KafkaError::MetadataFetch(RDKafkaErrorCode::InvalidTopic);
    let names = topics.iter().map(|topic| CString::new(*topic)).collect::<Result<Vec<_>, _>>().map_err(unknown)?;
    let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    let client = client.client().native_ptr();

    // SAFETY: `client` is alive for as long as the consumer, which is borrowed here. The names end with a zero and outlive
    // the call, which copies them. The options are of this client, no text of an error is asked for (null, of length 0), and
    // all handles are alive until the end of this function. The request copies options and topics, and holds the queue
    // itself, also when it is answered after this function has given up.
    #[allow(unsafe_code)]
    let queue = unsafe {
        let collection = raw::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let collection = Owned::of(collection, raw::rd_kafka_TopicCollection_destroy)?;
        let options =
            raw::rd_kafka_AdminOptions_new(client, raw::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let options = Owned::of(options, raw::rd_kafka_AdminOptions_destroy)?;
        raw::rd_kafka_AdminOptions_set_request_timeout(options.get(), millis(patience), ptr::null_mut(), 0);
        let queue = Owned::of(raw::rd_kafka_queue_new(client), raw::rd_kafka_queue_destroy)?;
        raw::rd_kafka_DescribeTopics(client, collection.get(), options.get(), queue.get());
        queue
    };
    // SAFETY: the queue is alive. What it gives is an event of its own, to be given back, or null after the time.
    #[allow(unsafe_code)]
    let event = unsafe { raw::rd_kafka_queue_poll(queue.get(), millis(patience + GRACE)) };
    answer(&Owned::of(event, raw::rd_kafka_event_destroy)?)
}

/// Reads the answer to a request.
fn answer(event: &Owned<raw::rd_kafka_event_t>) -> KafkaResult<BTreeMap<String, TopicFacts>> {
    // SAFETY: the event is alive, and so is all that is reached from it, which librdkafka owns and frees with it. Only this
    // thread has the event. The list of topics has as many as `count` says, none of them null. A name and an id are texts
    // that end with a zero, and are copied; an error is null where there is none.
    #[allow(unsafe_code)]
    unsafe {
        let code = raw::rd_kafka_event_error(event.get());
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::MetadataFetch(code.into()));
        }
        let result = raw::rd_kafka_event_DescribeTopics_result(event.get());
        let mut found = BTreeMap::new();
        if result.is_null() {
            return Ok(found);
        }
        let mut count = 0;
        let topics = raw::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for place in 0..if topics.is_null() { 0 } else { count } {
            let topic = *topics.add(place);
            let error = raw::rd_kafka_TopicDescription_error(topic);
            let is_there =
                error.is_null() || raw::rd_kafka_error_code(error) == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
            let mut partitions = 0;
            raw::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
            if !is_there || partitions == 0 {
                continue;
            }
            let name = CStr::from_ptr(raw::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
            let id = raw::rd_kafka_TopicDescription_topic_id(topic);
            let is_given = !id.is_null()
                && (raw::rd_kafka_Uuid_most_significant_bits(id), raw::rd_kafka_Uuid_least_significant_bits(id))
                    != (0, 0);
            let text = if is_given { raw::rd_kafka_Uuid_base64str(id) } else { ptr::null() };
            let id = (!text.is_null()).then(|| as_kafka_shows(&CStr::from_ptr(text).to_string_lossy()));
            found.insert(name, TopicFacts { partitions: u32::try_from(partitions).unwrap_or(u32::MAX), id });
        }
        Ok(found)
    }
}

/// An id as Kafka's own tools show it.
fn as_kafka_shows(id: &str) -> String {
    id.trim_end_matches('=').replace('+', "-").replace('/', "_")
}
