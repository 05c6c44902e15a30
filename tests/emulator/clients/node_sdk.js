// Scenarios with cos-nodejs-sdk-v5: each in a bucket of its own. Prints one line of JSON a scenario.
//
// usage: node node_sdk.js FORM ENDPOINT SECRET_ID SECRET_KEY TEMPORARY DIRECTORY
//   FORM is address or proxy; TEMPORARY are temporary keys, as JSON with the names that the SDK gives them

'use strict';
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { Writable } = require('node:stream');
const COS = require('cos-nodejs-sdk-v5');

const [form, endpoint, SecretId, SecretKey, temporary, directory] = process.argv.slice(2);
const address = endpoint.replace('http://', '');
const Region = 'ap-guangzhou';
const MIB = 1 << 20;
const called = new Set();

function client(more) {
  const options = { SecretId, SecretKey, Protocol: 'http:' };
  if (form === 'address') {
    options.Ip = address;
    options.Domain = '{Bucket}.cos.{Region}.myqcloud.com';
    options.ServiceDomain = endpoint;
  } else {
    options.Proxy = endpoint;
  }
  const cos = new COS({ ...options, ...more });
  // Only notes the names of what is called.
  return new Proxy(cos, {
    get(target, name) {
      const value = target[name];
      if (typeof value !== 'function') return value;
      called.add(name);
      return value.bind(target);
    },
  });
}

async function refused(promise, statusCode, code) {
  const error = await promise.then(() => assert.fail('was not refused'), (reason) => reason);
  assert.deepEqual([error.statusCode, error.code], [statusCode, code], error.message);
}

// Fetch a URL that the SDK wrote, with the emulator as proxy.
function fetched(url, method = 'GET', body = '', headers = {}) {
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, method, path: url, headers: { Host: new URL(url).host, ...headers } });
    request.on('error', reject);
    request.on('response', (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(chunks).toString() }));
    });
    request.end(body);
  });
}

const scenarios = {
  async buckets(cos, at) {
    const listed = await cos.getService({});
    assert.ok(listed.Buckets.some((bucket) => bucket.Name === at.Bucket && bucket.Location === Region));
    assert.equal((await cos.headBucket(at)).statusCode, 200);
    assert.equal((await cos.getBucketLocation(at)).LocationConstraint, Region);
    const Bucket = at.Bucket.replace('node', 'other');
    await cos.putBucket({ ...at, Bucket, ACL: 'public-read' });
    await refused(cos.putBucket({ ...at, Bucket }), 409, 'BucketAlreadyOwnedByYou');
    await cos.deleteBucket({ ...at, Bucket });
    await refused(cos.headBucket({ ...at, Bucket }), 404, '404');
  },

  async objects(cos, at) {
    for (const Key of ['a', '目录/中 文+a&b.txt', 'a//b', '100%', "q?a=b#c'"]) {
      const put = await cos.putObject({ ...at, Key, Body: 'hello', ContentType: 'a/b', 'x-cos-meta-a': '1' });
      assert.equal(put.ETag, '"5d41402abc4b2a76b9719d911017c592"');
      const got = await cos.getObject({ ...at, Key, Range: 'bytes=1-3' });
      assert.deepEqual([got.Body.toString(), got.statusCode], ['ell', 206]);
      const head = await cos.headObject({ ...at, Key });
      assert.equal(head.headers['content-type'], 'a/b');
      assert.equal(head.headers['x-cos-meta-a'], '1');
      assert.equal(head.headers['content-length'], '5');
      assert.equal((await cos.getBucket({ ...at, Prefix: Key })).Contents[0].Key, Key);
      await cos.deleteObject({ ...at, Key });
      await refused(cos.headObject({ ...at, Key }), 404, '404');
      await refused(cos.getObject({ ...at, Key }), 404, 'NoSuchKey');
    }
  },

  async streams(cos, at) {
    const data = crypto.randomBytes(300000);
    const file = path.join(directory, `stream-${form}`);
    fs.writeFileSync(file, data);
    await cos.putObject({ ...at, Key: 'k', Body: fs.createReadStream(file), ContentLength: data.length });
    const Output = fs.createWriteStream(`${file}.out`);
    await cos.getObject({ ...at, Key: 'k', Output });
    assert.ok(data.equals(fs.readFileSync(`${file}.out`)));
    const chunks = [];
    const sink = new Writable({ write(chunk, _, done) { chunks.push(chunk); done(); } });
    await new Promise((resolve, reject) => {
      cos.getObjectStream({ ...at, Key: 'k' }, (error) => error && reject(error)).pipe(sink).on('finish', resolve);
    });
    assert.ok(data.equals(Buffer.concat(chunks)));
  },

  async listings(cos, at) {
    for (const Key of ['a/1', 'a/2', 'b', '中/3']) await cos.putObject({ ...at, Key, Body: 'x' });
    const seen = [];
    let Marker = '';
    for (;;) {
      const page = await cos.getBucket({ ...at, Delimiter: '/', MaxKeys: 1, Marker });
      seen.push(...page.CommonPrefixes.map((each) => each.Prefix), ...page.Contents.map((each) => each.Key));
      if (page.IsTruncated !== 'true') break;
      Marker = page.NextMarker;
    }
    assert.deepEqual(seen, ['a/', 'b', '中/']);
    const encoded = await cos.getBucket({ ...at, Prefix: '中', EncodingType: 'url' });
    assert.equal(decodeURIComponent(encoded.Contents[0].Key), '中/3');
  },

  async conditions(cos, at) {
    await cos.putObject({ ...at, Key: 'k', Body: 'x' });
    await refused(cos.getObject({ ...at, Key: 'k', IfMatch: '"other"' }), 412, 'PreconditionFailed');
    const IfModifiedSince = new Date(Date.now() + 1000).toUTCString();
    const same = await cos.headObject({ ...at, Key: 'k', IfModifiedSince });
    assert.deepEqual([same.statusCode, same.NotModified], [304, true]);
    const Headers = { 'x-cos-forbid-overwrite': 'true' };
    await refused(cos.putObject({ ...at, Key: 'k', Body: 'y', Headers }), 409, 'FileAlreadyExists');
  },

  async copies(cos, at) {
    const Key = '目录/源 a+b';
    await cos.putObject({ ...at, Key, Body: 'data', 'x-cos-meta-a': '1' });
    const CopySource = `${at.Bucket}.cos.${Region}.myqcloud.com/${encodeURIComponent(Key)}`;
    const copied = await cos.putObjectCopy({ ...at, Key: 'copy', CopySource });
    assert.equal(copied.ETag, (await cos.headObject({ ...at, Key: 'copy' })).ETag);
    assert.equal((await cos.headObject({ ...at, Key: 'copy' })).headers['x-cos-meta-a'], '1');
    await cos.putObjectCopy({ ...at, Key: 'new', CopySource, MetadataDirective: 'Replaced', 'x-cos-meta-b': '2' });
    const { headers } = await cos.headObject({ ...at, Key: 'new' });
    assert.deepEqual([headers['x-cos-meta-a'], headers['x-cos-meta-b']], [undefined, '2']);
    await cos.putObject({ ...at, Key: 'big', Body: crypto.randomBytes(3 * MIB) });
    const big = `${at.Bucket}.cos.${Region}.myqcloud.com/big`;
    await cos.sliceCopyFile({ ...at, Key: 'sliced', CopySource: big, CopySliceSize: MIB, CopyChunkSize: MIB });
    const one = await cos.headObject({ ...at, Key: 'big' });
    const two = await cos.headObject({ ...at, Key: 'sliced' });
    assert.equal(one.headers['x-cos-hash-crc64ecma'], two.headers['x-cos-hash-crc64ecma']);
    assert.match(two.ETag, /-3"$/);
  },

  async multipart(cos, at) {
    const Key = '分块';
    const { UploadId } = await cos.multipartInit({ ...at, Key, 'x-cos-meta-a': '1' });
    const open = await cos.multipartList({ ...at, Prefix: Key });
    assert.deepEqual(open.Upload.map((each) => each.UploadId), [UploadId]);
    const first = crypto.randomBytes(MIB);
    const { ETag } = await cos.multipartUpload({ ...at, Key, UploadId, PartNumber: 1, Body: first });
    await cos.putObject({ ...at, Key: 'source', Body: '0123456789' });
    const CopySource = `${at.Bucket}.cos.${Region}.myqcloud.com/source`;
    const copied = await cos.uploadPartCopy({
      ...at, Key, UploadId, PartNumber: 2, CopySource, CopySourceRange: 'bytes=2-5',
    });
    const listed = await cos.multipartListPart({ ...at, Key, UploadId });
    assert.deepEqual(listed.Part.map((part) => part.ETag), [ETag, copied.ETag]);
    const Parts = [{ PartNumber: 1, ETag }, { PartNumber: 2, ETag: copied.ETag }];
    const done = await cos.multipartComplete({ ...at, Key, UploadId, Parts });
    assert.match(done.ETag, /-2"$/);
    assert.match(done.Location, /myqcloud\.com\//);
    const got = await cos.getObject({ ...at, Key });
    assert.ok(Buffer.concat([first, Buffer.from('2345')]).equals(got.Body));
    const other = await cos.multipartInit({ ...at, Key });
    await cos.multipartAbort({ ...at, Key, UploadId: other.UploadId });
    await refused(cos.multipartListPart({ ...at, Key, UploadId: other.UploadId }), 404, 'NoSuchUpload');
  },

  async files(cos, at) {
    const FilePath = path.join(directory, `file-${form}`);
    fs.writeFileSync(FilePath, crypto.randomBytes(3 * MIB + 7));
    const seen = [];
    const sliced = await cos.sliceUploadFile({
      ...at, Key: 'sliced', FilePath, SliceSize: MIB, ChunkSize: MIB, onProgress: (state) => seen.push(state.percent),
    });
    assert.match(sliced.ETag, /-4"$/);
    assert.equal(seen.at(-1), 1);
    await cos.uploadFile({ ...at, Key: 'whole', FilePath, SliceSize: 10 * MIB });
    await cos.uploadFiles({ files: ['one', 'two'].map((Key) => ({ ...at, Key, FilePath })), SliceSize: MIB });
    const target = `${FilePath}.back`;
    await cos.downloadFile({ ...at, Key: 'sliced', FilePath: target, ChunkSize: MIB, ParallelLimit: 2 });
    assert.ok(fs.readFileSync(FilePath).equals(fs.readFileSync(target)));
    for (const Key of ['whole', 'one', 'two']) {
      const { Body } = await cos.getObject({ ...at, Key });
      assert.ok(fs.readFileSync(FilePath).equals(Body), Key);
    }
    const { UploadId } = await cos.multipartInit({ ...at, Key: 'open' });
    await cos.abortUploadTask({ ...at, Key: 'open', UploadId, Level: 'task' });
    assert.equal((await cos.multipartList(at)).Upload.length, 0);
  },

  async deletions(cos, at) {
    for (const Key of ['a', 'b &<', '中']) await cos.putObject({ ...at, Key, Body: 'x' });
    const Objects = [{ Key: 'a' }, { Key: 'b &<' }, { Key: '中' }, { Key: 'missing' }];
    assert.equal((await cos.deleteMultipleObject({ ...at, Objects })).Deleted.length, 4);
    assert.equal((await cos.getBucket(at)).Contents.length, 0);
  },

  async versions(cos, at) {
    assert.ok(!(await cos.getBucketVersioning(at)).VersioningConfiguration?.Status);
    await cos.putBucketVersioning({ ...at, VersioningConfiguration: { Status: 'Enabled' } });
    assert.equal((await cos.getBucketVersioning(at)).VersioningConfiguration.Status, 'Enabled');
    const first = (await cos.putObject({ ...at, Key: 'k', Body: '1' })).VersionId;
    const second = (await cos.putObject({ ...at, Key: 'k', Body: '2' })).VersionId;
    assert.ok(first && first !== second);
    assert.equal((await cos.deleteObject({ ...at, Key: 'k' })).headers['x-cos-delete-marker'], 'true');
    const listed = await cos.listObjectVersions(at);
    assert.deepEqual(listed.Versions.map((each) => each.VersionId), [second, first]);
    assert.equal(listed.DeleteMarkers[0].IsLatest, 'true');
    assert.equal((await cos.getObject({ ...at, Key: 'k', VersionId: first })).Body.toString(), '1');
    const Objects = [first, second].map((VersionId) => ({ Key: 'k', VersionId }));
    assert.equal((await cos.deleteMultipleObject({ ...at, Objects })).Deleted.length, 2);
  },

  async access(cos, at) {
    assert.equal((await cos.getBucketAcl(at)).ACL, 'private');
    await cos.putBucketAcl({ ...at, ACL: 'public-read' });
    assert.equal((await cos.getBucketAcl(at)).ACL, 'public-read');
    await cos.putObject({ ...at, Key: 'k', Body: 'x', ACL: 'private' });
    await cos.putObjectAcl({ ...at, Key: 'k', GrantRead: 'id="qcs::cam::uin/2832742109:uin/2832742109"' });
    assert.ok((await cos.getObjectAcl({ ...at, Key: 'k' })).Grants.some((grant) => grant.Permission === 'READ'));
    const wrong = client({ SecretKey: 'wrong' });
    await refused(wrong.getBucket(at), 403, 'SignatureDoesNotMatch');
  },

  async tags(cos, at) {
    const Tags = [{ Key: 'a', Value: '1' }, { Key: '中', Value: '文' }];
    await cos.putBucketTagging({ ...at, Tags });
    assert.deepEqual((await cos.getBucketTagging(at)).Tags, Tags);
    await cos.deleteBucketTagging(at);
    assert.deepEqual((await cos.getBucketTagging(at)).Tags, []);
    await cos.putObject({ ...at, Key: 'k', Body: 'x' });
    await cos.putObjectTagging({ ...at, Key: 'k', Tags });
    assert.deepEqual((await cos.getObjectTagging({ ...at, Key: 'k' })).Tags, Tags);
    await cos.deleteObjectTagging({ ...at, Key: 'k' });
    assert.deepEqual((await cos.getObjectTagging({ ...at, Key: 'k' })).Tags, []);
  },

  async cors(cos, at) {
    assert.deepEqual((await cos.getBucketCors(at)).CORSRules, []);
    const rule = {
      AllowedOrigin: ['http://a.example'], AllowedMethod: ['GET', 'PUT'], AllowedHeader: ['x-cos-meta-a'],
      ExposeHeader: ['ETag'], MaxAgeSeconds: '5',
    };
    await cos.putBucketCors({ ...at, CORSRules: [rule] });
    const [read] = (await cos.getBucketCors(at)).CORSRules;
    assert.deepEqual(read.AllowedMethods ?? read.AllowedMethod, ['GET', 'PUT']);
    const asked = { ...at, Key: 'k', Origin: 'http://a.example', AccessControlRequestMethod: 'PUT' };
    const allowed = await cos.optionsObject({ ...asked, AccessControlRequestHeaders: 'x-cos-meta-a' });
    assert.match(allowed.AccessControlAllowMethods, /PUT/);
    assert.equal(allowed.AccessControlAllowOrigin, 'http://a.example');
    assert.ok((await cos.optionsObject({ ...asked, Origin: 'http://b.example' })).OptionsForbidden);
    await cos.deleteBucketCors(at);
    assert.deepEqual((await cos.getBucketCors(at)).CORSRules, []);
  },

  async policy(cos, at) {
    const statement = {
      effect: 'allow', principal: { qcs: ['qcs::cam::anonymous:anonymous'] }, action: ['name/cos:GetObject'],
      resource: [`qcs::cos:${Region}:uid/1250000000:${at.Bucket}/public/*`],
    };
    await refused(cos.getBucketPolicy(at), 404, '404'); // its own word for NoSuchPolicy
    await cos.putBucketPolicy({ ...at, Policy: { version: '2.0', statement: [statement] } });
    assert.deepEqual((await cos.getBucketPolicy(at)).Policy.statement[0].action, ['name/cos:GetObject']);
    await cos.deleteBucketPolicy(at);
    await refused(cos.getBucketPolicy(at), 404, '404');
  },

  async settings(cos, at) {
    const Rules = [{ ID: 'r', Status: 'Enabled', Filter: { Prefix: 'x/' }, Expiration: { Days: '1' } }];
    await cos.putBucketLifecycle({ ...at, Rules });
    assert.equal((await cos.getBucketLifecycle(at)).Rules[0].Expiration.Days, '1');
    await cos.deleteBucketLifecycle(at);
    assert.deepEqual((await cos.getBucketLifecycle(at)).Rules, []);

    const WebsiteConfiguration = {
      IndexDocument: { Suffix: 'index.html' },
      RoutingRules: [{ Condition: { KeyPrefixEquals: 'old/' }, Redirect: { ReplaceKeyPrefixWith: 'new/' } }],
    };
    await cos.putBucketWebsite({ ...at, WebsiteConfiguration });
    const site = (await cos.getBucketWebsite(at)).WebsiteConfiguration;
    assert.equal(site.RoutingRules[0].Redirect.ReplaceKeyPrefixWith, 'new/');
    await cos.deleteBucketWebsite(at);
    assert.deepEqual((await cos.getBucketWebsite(at)).WebsiteConfiguration, {});

    const RefererConfiguration = {
      Status: 'Enabled', RefererType: 'White-List', EmptyReferConfiguration: 'Allow',
      DomainList: { Domains: ['*.example.com'] },
    };
    await cos.putBucketReferer({ ...at, RefererConfiguration });
    assert.equal((await cos.getBucketReferer(at)).RefererConfiguration.RefererType, 'White-List');

    await cos.putBucketDomain({ ...at, DomainRule: [{ Name: 'www.example.com', Type: 'REST', Status: 'ENABLED' }] });
    assert.equal((await cos.getBucketDomain(at)).DomainRule[0].Name, 'www.example.com');
    await cos.deleteBucketDomain(at);
    assert.deepEqual((await cos.getBucketDomain(at)).DomainRule, []);

    const OriginRule = [{
      OriginType: 'Mirror', OriginCondition: { HTTPStatusCode: '404', Prefix: 'x' },
      OriginParameter: { Protocol: 'HTTP' }, OriginInfo: { HostInfo: { HostName: 'example.com' } },
    }];
    await cos.putBucketOrigin({ ...at, OriginRule });
    assert.equal((await cos.getBucketOrigin(at)).OriginRule[0].OriginType, 'Mirror');
    await cos.deleteBucketOrigin(at);
    await refused(cos.getBucketOrigin(at), 404, 'OriginConfigurationNotFoundError');

    const BucketLoggingStatus = { LoggingEnabled: { TargetBucket: at.Bucket, TargetPrefix: 'logs/' } };
    await cos.putBucketLogging({ ...at, BucketLoggingStatus });
    assert.equal((await cos.getBucketLogging(at)).BucketLoggingStatus.LoggingEnabled.TargetPrefix, 'logs/');

    await cos.putBucketAccelerate({ ...at, AccelerateConfiguration: { Status: 'Enabled' } });
    assert.equal((await cos.getBucketAccelerate(at)).AccelerateConfiguration.Status, 'Enabled');

    const Rule = [{ ApplySideEncryptionConfiguration: { SSEAlgorithm: 'AES256' } }];
    await cos.putBucketEncryption({ ...at, ServerSideEncryptionConfiguration: { Rule } });
    assert.match(JSON.stringify(await cos.getBucketEncryption(at)), /AES256/);
    await cos.deleteBucketEncryption(at);
  },

  async inventories(cos, at) {
    const InventoryConfiguration = {
      Id: 'a', IsEnabled: 'true', IncludedObjectVersions: 'All', Schedule: { Frequency: 'Daily' },
      Destination: {
        COSBucketDestination: {
          Format: 'CSV', AccountId: '1250000000', Bucket: `qcs::cos:${Region}::${at.Bucket}`, Prefix: 'list',
        },
      },
      OptionalFields: ['Size', 'ETag'],
    };
    await cos.putBucketInventory({ ...at, Id: 'a', InventoryConfiguration });
    assert.equal((await cos.getBucketInventory({ ...at, Id: 'a' })).InventoryConfiguration.Id, 'a');
    assert.match(JSON.stringify(await cos.listBucketInventory(at)), /"Id":"a"/);
    await cos.deleteBucketInventory({ ...at, Id: 'a' });
    await refused(cos.getBucketInventory({ ...at, Id: 'a' }), 404, 'InventoryConfigurationNotFoundError');
  },

  async replication(cos, at) {
    const target = { ...at, Bucket: at.Bucket.replace('node', 'target') };
    await cos.putBucket(target);
    for (const each of [at, target]) {
      await cos.putBucketVersioning({ ...each, VersioningConfiguration: { Status: 'Enabled' } });
    }
    const ReplicationConfiguration = {
      Role: 'qcs::cam::uin/100000000001:uin/100000000001',
      Rules: [{ ID: 'r', Status: 'Enabled', Prefix: 'a', Destination: { Bucket: `qcs::cos:${Region}::${target.Bucket}` } }],
    };
    await cos.putBucketReplication({ ...at, ReplicationConfiguration });
    assert.equal((await cos.getBucketReplication(at)).ReplicationConfiguration.Rules[0].ID, 'r');
    await cos.deleteBucketReplication(at);
    // It would make an empty list of a code that it spells otherwise than the documentation.
    await refused(cos.getBucketReplication(at), 404, 'ReplicationConfigurationNotFoundError');
  },

  async appendingAndArchives(cos, at) {
    const first = await cos.appendObject({ ...at, Key: 'log', Body: 'one', Position: 0 });
    const Position = first.headers['x-cos-next-append-position'];
    await cos.appendObject({ ...at, Key: 'log', Body: 'two', Position });
    assert.equal((await cos.getObject({ ...at, Key: 'log' })).Body.toString(), 'onetwo');
    await refused(cos.appendObject({ ...at, Key: 'log', Body: 'x', Position: 0 }), 409, 'AppendPositionErr');
    await cos.putObject({ ...at, Key: 'cold', Body: 'x', StorageClass: 'ARCHIVE' });
    await refused(cos.getObject({ ...at, Key: 'cold' }), 403, 'InvalidObjectState');
    const RestoreRequest = { Days: 1, CASJobParameters: { Tier: 'Expedited' } };
    await cos.restoreObject({ ...at, Key: 'cold', RestoreRequest });
    assert.equal((await cos.getObject({ ...at, Key: 'cold' })).Body.toString(), 'x');
  },

  async selecting(cos, at) {
    await cos.putObject({ ...at, Key: 'k.json', Body: '{"a": 1}\n{"a": 2, "b": "中"}\n' });
    const SelectRequest = {
      Expression: 'SELECT s.b FROM COSObject s WHERE s.a > 1', ExpressionType: 'SQL',
      InputSerialization: { CompressionType: 'NONE', JSON: { Type: 'LINES' } },
      OutputSerialization: { CSV: {} }, RequestProgress: { Enabled: 'FALSE' },
    };
    const asked = { ...at, Key: 'k.json', SelectType: 2, SelectRequest };
    const chunks = [];
    const sink = new Writable({ write(chunk, _, done) { chunks.push(chunk); done(); } });
    await new Promise((resolve, reject) => {
      cos.selectObjectContentStream(asked, (error) => error && reject(error)).pipe(sink).on('finish', resolve);
    });
    assert.equal(Buffer.concat(chunks).toString().trim(), '中');
  },

  async addresses(cos, at) {
    const Key = '目录/中 文';
    const put = cos.getObjectUrl({ ...at, Key, Method: 'PUT', Sign: true, Protocol: 'http:' });
    assert.equal((await fetched(put, 'PUT', 'x')).status, 200);
    const url = cos.getObjectUrl({ ...at, Key, Sign: true, Expires: 60, Protocol: 'http:' });
    assert.deepEqual(await fetched(url), { status: 200, body: 'x' });
    assert.equal((await fetched(url.replace('q-signature=', 'q-signature=0'))).status, 403);
    assert.equal((await fetched(cos.getObjectUrl({ ...at, Key, Sign: false, Protocol: 'http:' }))).status, 403);
    const Query = { 'response-content-type': 'a/b' };
    const typed = cos.getObjectUrl({ ...at, Key, Sign: true, Query, Protocol: 'http:' });
    assert.equal((await fetched(typed)).status, 200);
    const own = await cos.request({ ...at, Key, Method: 'GET', RawBody: true });
    assert.equal(own.Body.toString(), 'x');
  },

  async signatures(cos, at) {
    await cos.putObject({ ...at, Key: 'k', Body: 'x' });
    const host = `${at.Bucket}.cos.${Region}.myqcloud.com`;
    const made = { Method: 'GET', Key: 'k', Expires: 60 };
    const Authorization = cos.getAuth({ ...at, ...made });
    assert.equal((await fetched(`http://${host}/k`, 'GET', '', { Authorization })).body, 'x');
    assert.equal((await fetched(`http://${host}/k`, 'DELETE', '', { Authorization })).status, 403);
    const late = client({ SystemClockOffset: -3600000 }).getAuth({ ...at, ...made });
    assert.match((await fetched(`http://${host}/k`, 'GET', '', { Authorization: late })).body, /Request has expired/);
    const asked = client({
      SecretId: '', SecretKey: '',
      getAuthorization(options, callback) { callback(JSON.parse(temporary)); },
    });
    assert.equal((await asked.getObject({ ...at, Key: 'k' })).Body.toString(), 'x');
  },

  async aWrongClockIsCorrected(cos, at) {
    const late = client({ SystemClockOffset: -7200000 });
    await late.putObject({ ...at, Key: 'k', Body: 'x' });
    assert.equal((await cos.getObject({ ...at, Key: 'k' })).Body.toString(), 'x');
  },
};

const OUT_OF_SCOPE = [
  'getV4Auth', // signs for the data processing of its vendor
  'selectObjectContent', // pipes the records that it has read into itself and breaks on them; the stream works
];
const ALIASES = /(ACL|CORS)$/; // old spellings of getBucketAcl and so on

async function main() {
  for (const [name, run] of Object.entries(scenarios)) {
    const at = { Bucket: `node${process.pid}-${form}-${name.toLowerCase()}-1250000000`, Region };
    let error = '';
    try {
      const cos = client();
      await cos.putBucket(at);
      await run(cos, at);
    } catch (reason) {
      error = `${reason.stack ?? ''}${JSON.stringify(reason)}`;
    }
    console.log(JSON.stringify({ name, error }));
  }
  const methods = Object.keys(COS.prototype).filter((name) => !ALIASES.test(name));
  const forgotten = methods.filter((name) => ![...called, ...OUT_OF_SCOPE].includes(name));
  console.log(JSON.stringify({ name: 'no public method is forgotten', error: forgotten.join(' ') }));
  process.exit(0);
}

main();
