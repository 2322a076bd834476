// Signs requests to a LiveOps service. One file to copy, for .NET Standard 2.1 and later (Unity 2021, .NET 6), nothing to install.
//
//   var client = new LiveOps.Client(new Uri("https://liveops.example"), keyId, secret);
//   var answer = await client.Send("POST", "/v1/events", "{\"event_id\": …}");
//
// docs/signing.md is the scheme.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;

namespace LiveOps
{
    /// <summary>The scheme: texts in, texts out.</summary>
    public static class Signing
    {
        /// <summary>Decodes the pairs of a query, encodes them again by RFC 3986 and sorts them. It throws FormatException for what the
        /// service would refuse.</summary>
        public static string CanonicalQuery(string raw)
        {
            var pairs = new List<KeyValuePair<string, string>>();
            foreach (var pair in raw.Split('&'))
            {
                if (pair == "") continue;
                var at = pair.IndexOf('=');
                var name = at < 0 ? pair : pair.Substring(0, at);
                var value = at < 0 ? "" : pair.Substring(at + 1);
                pairs.Add(new KeyValuePair<string, string>(Recode(name), Recode(value)));
            }
            // Ordinal: the order of a culture is another one.
            return string.Join("&", pairs
                .OrderBy(pair => pair.Key, StringComparer.Ordinal).ThenBy(pair => pair.Value, StringComparer.Ordinal)
                .Select(pair => pair.Key + "=" + pair.Value));
        }

        // Bytes, not characters: an escape may stand for any byte.
        private static string Recode(string part)
        {
            var bytes = Encoding.UTF8.GetBytes(part.Replace('+', ' '));
            var text = new StringBuilder();
            for (var i = 0; i < bytes.Length; i++)
            {
                var b = bytes[i];
                if (b == ';') throw new FormatException("the query has a raw semicolon");
                if (b == '%')
                {
                    if (i + 2 >= bytes.Length || !Uri.IsHexDigit((char)bytes[i + 1]) || !Uri.IsHexDigit((char)bytes[i + 2]))
                    {
                        throw new FormatException("the query has a bad percent escape");
                    }
                    b = (byte)(Uri.FromHex((char)bytes[i + 1]) * 16 + Uri.FromHex((char)bytes[i + 2]));
                    i += 2;
                }
                var c = (char)b;
                var plain = c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~';
                text.Append(plain ? c.ToString() : "%" + b.ToString("X2", CultureInfo.InvariantCulture));
            }
            return text.ToString();
        }

        /// <summary>The text that is signed. target is the path and the query as they are sent, percent-encoded.</summary>
        public static string Canonical(string method, string target, string timestamp, string nonce, string idempotencyKey, byte[] body)
        {
            var at = target.IndexOf('?');
            var path = at < 0 ? target : target.Substring(0, at);
            var query = at < 0 ? "" : target.Substring(at + 1);
            string digest;
            using (var sha = SHA256.Create())
            {
                digest = string.Concat(sha.ComputeHash(body).Select(b => b.ToString("x2", CultureInfo.InvariantCulture)));
            }
            return string.Join("\n", "v1", method, path, CanonicalQuery(query), timestamp, nonce,
                string.IsNullOrEmpty(idempotencyKey) ? "-" : idempotencyKey, digest);
        }

        /// <summary>The value of X-Liveops-Signature for a canonical text.</summary>
        public static string Signature(string secret, string text)
        {
            using (var mac = new HMACSHA256(Encoding.UTF8.GetBytes(secret)))
            {
                return "v1=" + UrlSafe(mac.ComputeHash(Encoding.UTF8.GetBytes(text)));
            }
        }

        /// <summary>The headers of a request that is sent now, in unix seconds. Each call makes a new nonce, so sign every try anew.</summary>
        public static Dictionary<string, string> Sign(
            string keyId, string secret, string method, string target, string idempotencyKey, byte[] body, long now)
        {
            var timestamp = now.ToString(CultureInfo.InvariantCulture);
            var nonce = Token();
            var headers = new Dictionary<string, string>
            {
                ["X-Liveops-Key"] = keyId,
                ["X-Liveops-Timestamp"] = timestamp,
                ["X-Liveops-Nonce"] = nonce,
                ["X-Liveops-Signature"] = Signature(secret, Canonical(method, target, timestamp, nonce, idempotencyKey, body)),
            };
            if (!string.IsNullOrEmpty(idempotencyKey)) headers["Idempotency-Key"] = idempotencyKey;
            return headers;
        }

        /// <summary>24 random url-safe characters.</summary>
        public static string Token()
        {
            var random = new byte[18];
            using (var source = RandomNumberGenerator.Create()) source.GetBytes(random);
            return UrlSafe(random);
        }

        private static string UrlSafe(byte[] bytes)
        {
            return Convert.ToBase64String(bytes).TrimEnd('=').Replace('+', '-').Replace('/', '_');
        }
    }

    /// <summary>An answer of the service; Body is JSON, or empty.</summary>
    public sealed class Answer
    {
        public int Status;
        public string Body = "";
    }

    /// <summary>Sends signed requests, and sends them again while that may help. It may be used by many at once.</summary>
    public sealed class Client
    {
        private readonly Uri origin;
        private readonly string keyId;
        private readonly string secret;
        private readonly HttpClient http;
        private long offset; // seconds that the service's clock is ahead of ours

        /// <summary>How often a request is sent, but for the one time that the clock was wrong.</summary>
        public int Tries = 4;

        /// <summary>The clock, and the wait between tries, to be replaced in tests.</summary>
        public Func<DateTimeOffset> Now = () => DateTimeOffset.UtcNow;
        public Func<TimeSpan, Task> Sleep = Task.Delay;

        /// <summary>transport must not follow redirects, which would be signed wrongly.</summary>
        public Client(Uri origin, string keyId, string secret, HttpMessageHandler transport = null)
        {
            this.origin = origin;
            this.keyId = keyId;
            this.secret = secret;
            http = new HttpClient(transport ?? new HttpClientHandler { AllowAutoRedirect = false }) { Timeout = TimeSpan.FromSeconds(15) };
        }

        /// <summary>Gives the answer. A request that changes something gets an idempotency key if it has none; to try it again later,
        /// after an exception too, send it with the same one.</summary>
        public async Task<Answer> Send(string method, string target, string json = "", string idempotencyKey = null)
        {
            var uri = new Uri(origin, target);
            var body = Encoding.UTF8.GetBytes(json);
            if (method != "GET" && string.IsNullOrEmpty(idempotencyKey)) idempotencyKey = Signing.Token();
            var corrected = false;
            for (var tried = 0; ;)
            {
                TimeSpan? told = null;
                try
                {
                    using (var request = Request(method, uri, body, idempotencyKey))
                    using (var response = await http.SendAsync(request))
                    {
                        var answer = new Answer { Status = (int)response.StatusCode, Body = await response.Content.ReadAsStringAsync() };
                        var problem = Problem.Read(answer);
                        if (answer.Status == 401 && problem.Code == "timestamp-out-of-window" && !corrected)
                        {
                            corrected = true; // once: a second refusal is not the clock's fault
                            offset = problem.ServerTime - Now().ToUnixTimeSeconds();
                            continue;
                        }
                        var later = answer.Status == 429 || answer.Status == 503 || problem.Code == "idempotency-in-flight";
                        if (!later || ++tried >= Tries) return answer;
                        told = response.Headers.RetryAfter?.Delta;
                    }
                }
                catch (Exception trouble) when (trouble is HttpRequestException || trouble is TaskCanceledException) // no answer
                {
                    if (++tried >= Tries) throw;
                }
                await Sleep(told ?? TimeSpan.FromSeconds(0.25 * Math.Pow(2, tried)));
            }
        }

        private HttpRequestMessage Request(string method, Uri uri, byte[] body, string idempotencyKey)
        {
            var request = new HttpRequestMessage(new HttpMethod(method), uri);
            if (body.Length > 0)
            {
                request.Content = new ByteArrayContent(body);
                request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
            }
            // PathAndQuery is what is sent.
            var headers = Signing.Sign(keyId, secret, method, uri.PathAndQuery, idempotencyKey, body, Now().ToUnixTimeSeconds() + offset);
            foreach (var header in headers) request.Headers.TryAddWithoutValidation(header.Key, header.Value);
            return request;
        }

        [DataContract]
        private sealed class Problem
        {
            [DataMember(Name = "code")] public string Code;
            [DataMember(Name = "server_time")] public long ServerTime;

            public static Problem Read(Answer answer)
            {
                if (answer.Status < 400) return new Problem();
                try
                {
                    using (var text = new MemoryStream(Encoding.UTF8.GetBytes(answer.Body)))
                    {
                        return (Problem)new DataContractJsonSerializer(typeof(Problem)).ReadObject(text) ?? new Problem();
                    }
                }
                catch (Exception bad) when (bad is SerializationException || bad is System.Xml.XmlException)
                {
                    return new Problem(); // a proxy's page
                }
            }
        }
    }
}
