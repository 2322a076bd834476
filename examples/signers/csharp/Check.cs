// Holds LiveOps.cs to the published vectors: dotnet run -- vectors.json

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using LiveOps;

[DataContract]
sealed class Vectors
{
    [DataMember(Name = "keys")] public KeyOf[] Keys;
    [DataMember(Name = "session_masters")] public string[] Masters;
    [DataMember(Name = "sessions")] public Derived[] Sessions;
    [DataMember(Name = "vectors")] public Vector[] All;
}

[DataContract]
sealed class KeyOf
{
    [DataMember(Name = "id")] public string Id;
    [DataMember(Name = "secrets")] public string[] Secrets;
}

[DataContract]
sealed class Derived
{
    [DataMember(Name = "master")] public string Master;
    [DataMember(Name = "key_id")] public string KeyId;
    [DataMember(Name = "secret")] public string Secret;
}

[DataContract]
sealed class Vector
{
    [DataMember(Name = "name")] public string Name;
    [DataMember(Name = "method")] public string Method;
    [DataMember(Name = "target")] public string Target;
    [DataMember(Name = "headers")] public string[][] Headers;
    [DataMember(Name = "body")] public string Body;
    [DataMember(Name = "canonical")] public string Canonical;
    [DataMember(Name = "code")] public string Code;

    public string Header(string name)
    {
        return Headers.Where(h => string.Equals(h[0], name, StringComparison.OrdinalIgnoreCase)).Select(h => h[1]).LastOrDefault();
    }

    public string Text()
    {
        return Signing.Canonical(Method, Target, Header("X-Liveops-Timestamp"), Header("X-Liveops-Nonce"), Header("Idempotency-Key"),
            Encoding.UTF8.GetBytes(Body));
    }
}

/// <summary>Answers as it is told and keeps what it was asked.</summary>
sealed class Service : HttpMessageHandler
{
    public readonly List<HttpRequestMessage> Requests = new List<HttpRequestMessage>();
    public readonly List<string> Bodies = new List<string>();
    public readonly List<double> Waits = new List<double>();
    private readonly Queue<HttpResponseMessage> answers;

    public Service(params HttpResponseMessage[] answers) { this.answers = new Queue<HttpResponseMessage>(answers); }

    public static HttpResponseMessage Told(int status, string body, int retryAfter = -1)
    {
        var answer = new HttpResponseMessage((HttpStatusCode)status) { Content = new StringContent(body) };
        if (retryAfter >= 0) answer.Headers.TryAddWithoutValidation("Retry-After", retryAfter.ToString());
        return answer;
    }

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken stop)
    {
        Requests.Add(request);
        Bodies.Add(request.Content == null ? "" : await request.Content.ReadAsStringAsync());
        var answer = answers.Dequeue();
        if (answer == null) throw new HttpRequestException("no answer");
        return answer;
    }

    public Client Client(string secret)
    {
        return new Client(new Uri("https://example.test"), "studio", secret, this)
        {
            Now = () => DateTimeOffset.FromUnixTimeSeconds(1000),
            Sleep = wait => { Waits.Add(wait.TotalSeconds); return Task.CompletedTask; },
        };
    }

    public string[] Sent(string name)
    {
        return Requests.Select(r => r.Headers.TryGetValues(name, out var values) ? values.Single() : null).ToArray();
    }
}

static class Program
{
    private static int passed, failed;

    private static void Check(string name, bool holds)
    {
        if (holds) { passed++; return; }
        failed++;
        Console.WriteLine("FAIL " + name);
    }

    /// <summary>The secret of a session's key, as the service derives it; a client never does.</summary>
    private static string Derive(string master, string keyId)
    {
        byte[] extracted, expanded;
        using (var mac = new HMACSHA256(new byte[32])) extracted = mac.ComputeHash(Encoding.UTF8.GetBytes(master));
        using (var mac = new HMACSHA256(extracted)) expanded = mac.ComputeHash(Encoding.UTF8.GetBytes("liveops session v1\n" + keyId + "\u0001"));
        return Convert.ToBase64String(expanded).TrimEnd('=').Replace('+', '-').Replace('/', '_');
    }

    private static int Main(string[] args) { return Run(args[0]).GetAwaiter().GetResult(); }

    private static async Task<int> Run(string path)
    {
        Vectors vectors;
        using (var file = File.OpenRead(path))
        {
            vectors = (Vectors)new DataContractJsonSerializer(typeof(Vectors)).ReadObject(file);
        }
        foreach (var session in vectors.Sessions)
        {
            Check("session " + session.KeyId, Derive(session.Master, session.KeyId) == session.Secret);
        }
        foreach (var vector in vectors.All) CheckVector(vectors, vector);
        await CheckClient(vectors.Keys[0].Secrets[0]);
        Console.WriteLine(passed + " passed, " + failed + " failed");
        return failed > 0 ? 1 : 0;
    }

    private static void CheckVector(Vectors vectors, Vector vector)
    {
        Func<bool> matches = () =>
        {
            var id = vector.Header("X-Liveops-Key");
            var secrets = id.StartsWith("ses.", StringComparison.Ordinal)
                ? vectors.Masters.Select(master => Derive(master, id))
                : vectors.Keys.Where(key => key.Id == id).SelectMany(key => key.Secrets);
            var sent = vector.Header("X-Liveops-Signature").Split(',').Select(one => one.Trim());
            return secrets.Select(secret => Signing.Signature(secret, vector.Text())).Intersect(sent).Any();
        };
        switch (vector.Code)
        {
            case null:
                Check(vector.Name, vector.Text() == vector.Canonical && matches());
                break;
            case "signature-mismatch":
                Check(vector.Name, !matches());
                break;
            case "session-expired":
            case "timestamp-out-of-window":
                Check(vector.Name, matches() == (vector.Name != "wrong time and wrong signature"));
                break;
            case "malformed-request":
                try
                {
                    Signing.CanonicalQuery(vector.Target.Substring(vector.Target.IndexOf('?') + 1));
                    Check(vector.Name, false);
                }
                catch (FormatException)
                {
                    Check(vector.Name, true);
                }
                break;
        }
    }

    private static async Task CheckClient(string secret)
    {
        Func<HttpResponseMessage> late = () => Service.Told(401, "{\"code\":\"timestamp-out-of-window\",\"server_time\":5000}");
        var service = new Service(late(), null, Service.Told(503, "<html>", 7), Service.Told(409, "{\"code\":\"idempotency-in-flight\"}"),
            Service.Told(202, "{\"accepted\":1}"));
        var answer = await service.Client(secret).Send("POST", "/v1/events?x=Zo\u00eb%201&x='a'&b=c+d", "{\"name\":\"Zo\u00eb\"}");
        Check("an answer after trouble", answer.Status == 202 && answer.Body == "{\"accepted\":1}");
        Check("the clock is corrected", string.Join(",", service.Sent("X-Liveops-Timestamp")) == "1000,5000,5000,5000,5000");
        Check("a new nonce for every try", service.Sent("X-Liveops-Nonce").Distinct().Count() == 5);
        Check("one idempotency key for all", service.Sent("Idempotency-Key").Distinct().Count() == 1 && service.Sent("Idempotency-Key")[0].Length == 24);
        Check("the same bytes", service.Bodies.All(body => body == "{\"name\":\"Zo\u00eb\"}"));
        Check("waits as told", service.Waits.SequenceEqual(new[] { 0.5, 7, 2 }));
        for (var i = 0; i < service.Requests.Count; i++)
        {
            var text = Signing.Canonical("POST", service.Requests[i].RequestUri.PathAndQuery, service.Sent("X-Liveops-Timestamp")[i],
                service.Sent("X-Liveops-Nonce")[i], service.Sent("Idempotency-Key")[i], Encoding.UTF8.GetBytes(service.Bodies[i]));
            Check("every try is signed", service.Sent("X-Liveops-Signature")[i] == Signing.Signature(secret, text));
        }

        service = new Service(late(), late());
        answer = await service.Client(secret).Send("GET", "/v1/players/p");
        Check("the clock is corrected once", answer.Status == 401 && service.Requests.Count == 2);
        Check("a read has no idempotency key", service.Sent("Idempotency-Key").All(sent => sent == null));

        service = new Service(Service.Told(422, "{\"code\":\"event-invalid\"}"));
        answer = await service.Client(secret).Send("POST", "/v1/events", "{}");
        Check("what will not help is not tried again", answer.Status == 422);

        service = new Service(null, null, null, null);
        try
        {
            await service.Client(secret).Send("GET", "/v1/time");
            Check("no answer at all", false);
        }
        catch (HttpRequestException)
        {
            Check("no answer at all", service.Requests.Count == 4);
        }
    }
}
