import asyncio, socket, random, json
from urllib.parse import quote
import pytest
from servers import running
from stacks import *
from deploylog.auth.apikey import make_key
from factories import now

async def raw(port, data):
    r,w = await asyncio.open_connection("127.0.0.1", port)
    w.write(data); 
    try: w.write_eof()
    except Exception: pass
    try:
        out = await asyncio.wait_for(r.read(), 10)
    except asyncio.TimeoutError: out=b"TIMEOUT"
    w.close(); return out

async def test_fuzz(store):
    async with running(store, base_paths="/prod") as s:
        await store.log.append(collected(image_build(), beside=(image_scope(),)))
        bad=[]
        async def go(method, target, body=b"", headers=()):
            h=b"".join(b"%s: %s\r\n"%x for x in headers)
            if not any(k.lower()==b"host" for k,_ in headers): h+=b"Host: localhost\r\n"
            out = await raw(s.port, method+b" "+target+b" HTTP/1.1\r\n"+h+b"Connection: close\r\nContent-Length: %d\r\n\r\n"%len(body)+body)
            st = out[:12]
            if st.startswith(b"HTTP/1.1 5") or not st.startswith(b"HTTP"): bad.append((method,target[:80],body[:80],headers,out[:60], out[-120:]))
            return out
        F=((b"Content-Type",b"application/x-www-form-urlencoded"),)
        for t in (b"/?a=%C3%A9",b"/?a=%ff",b"/?Action=%ff&Version=2010-05-15",b"/?\xc3\xa9",b"/?Action%00=1", b"/prod/?%e9=1", b"/?"+b"a&"*5000):
            for m in (b"GET",b"HEAD",b"POST",b"OPTIONS",b"PUT"):
                await go(m,t)
        for host in (b"[",b"[::1",b"a b",b"\xff",b"localhost:99999999",b"localhost:abc",b"]", b"user@localhost"):
            for m,t in ((b"GET",b"/"),(b"DELETE",b"/"),(b"GET",b"/nope"),(b"GET",b"/v3/x"),(b"PUT",b"/log/v1/ingest/sns"),(b"POST",b"/log/v1/ingest/sns"),(b"DELETE",b"/healthz")):
                await go(m,t,headers=((b"Host",host),))
        names=[NAME,ARN,"a"*5000,"\0","é","x/"*300,"arn:aws:cloudformation:us-east-1:123456789012:stack/"+"a"*3000+"/"+"b"*3000,"arn:aws:cloudformation:us-east-1:123456789012:stack/\0/\0","'\"<>&","%","\ud800".encode("utf-8","surrogatepass")]
        for a in ("DescribeStacks","DescribeStackEvents","DescribeStackResource","ListStacks","","X"*3000,"<&>\0"):
            for n in names:
                for extra in ("","&NextToken=x","&NextToken=%00","&NextToken="+"A"*40,"&NextToken=%C3%A9","&StackStatusFilter.member.1=%ff","&LogicalResourceId=%00","&LogicalResourceId=é"):
                    b=("Action="+quote(a)+"&Version=2010-05-15&StackName="+quote(n)+extra).encode()
                    await go(b"POST",b"/",b,F)
        for b in (b"\xff\xfe",b"&&&",b"=",b"Action",b"Action=DescribeStacks&Version=2010-05-15&"*100,b"Action=ListStacks&Version=2010-05-15&StackStatusFilter.member.9999=CREATE_COMPLETE"):
            await go(b"POST",b"/",b,F)
            await go(b"POST",b"/",b,F+((b"Content-Encoding",b"gzip"),))
        for p in (b"/v3/images/custom/"+quote(x).encode() + b"/stackevents" for x in names if x):
            for q in (b"",b"?region=",b"?region=%ff",b"?region=us-east-1&nextToken=%00",b"?nextToken="+b"A"*5000,b"?\xff=1",b"?nextToken=\xff"):
                for m in (b"GET",b"HEAD",b"OPTIONS",b"POST"):
                    await go(m,p+q)
        for a in (b"AWS4-",b"AWS4-HMAC-SHA256 Credential=a/20240101/r/execute-api/aws4_request, SignedHeaders=host;x-amz-date, Signature="+b"0"*64,b"SDK-HMAC-SHA256 Access=\xff, SignedHeaders=x-sdk-date, Signature="+b"0"*64, b"V11-x",b"Bearer \xff",b"Basic \xff", b"AWS4-\xff"):
            for d in (b"",b"20241399T999999Z",b"\xff",b"99999999T000000Z",b"00000000T000000Z",b"00010101T000000Z"):
                h=((b"Authorization",a),(b"X-Amz-Date",d),(b"X-Sdk-Date",d))
                for m,t in ((b"GET",b"/v3/images/custom/ab/stackevents"),(b"POST",b"/"),(b"GET",b"/log/v1/events"),(b"GET",b"/v1/p/stacks/x/events")):
                    await go(m,t,b"x",h)
        # ingest
        from sns import envelope, sns_message, TOPIC
        arn="arn:aws:cloudformation:eu-west-1:123456789012:stack/web/00000000-0000-4000-8000-000000000001"
        rnd=random.Random(1)
        weird=["","\0","\ud800","a"*70000,"é"*5000,None,1,[],{}, "arn:","2026-03-01T12:00:00Z","9999-12-31T23:59:59Z","0001-01-01T00:00:00Z","1600-01-01T00:00:00Z","2262-05-01T00:00:00Z","CREATE_IN_PROGRESS","DELETE_COMPLETE","x.*","type.*"," ","\n"]
        def paths(o,p=()):
            if isinstance(o,dict):
                for k,v in o.items(): yield from paths(v,p+(k,))
            else: yield p
        def put(o,p,v):
            o=json.loads(json.dumps(o)); x=o
            for k in p[:-1]: x=x[k]
            x[p[-1]]=v; return o
        i=0
        for base in (envelope(arn,"CREATE_IN_PROGRESS"),envelope(arn,"CREATE_COMPLETE",logical="B")):
            for p in paths(base):
                for v in weird:
                    i+=1
                    o=put(base,p,v)
                    if p!=("id",): o["id"]=f"f-{i}"
                    out=await go(b"POST",b"/log/v1/ingest/eventbridge?project=acme",json.dumps(o).encode())
        for q in (b"",b"?project=",b"?project=%00",b"?project=%ff",b"?project=a&scope=%00",b"?project=a&scope=x&scope=y",b"?project=a&scopes=image/%ff",b"?project=a&group=%00",b"?project=\xff",b"?project="+b"a"*5000):
            await go(b"POST",b"/log/v1/ingest/eventbridge"+q,json.dumps(envelope(arn,"CREATE_IN_PROGRESS",id="q"+str(hash(q)))).encode())
            await go(b"POST",b"/log/v1/ingest/sns"+q,json.dumps(sns_message("x")).encode())
        # after weird times: read it all
        for a in ("DescribeStacks","ListStacks"):
            out=await go(b"POST",b"/",f"Action={a}&Version=2010-05-15".encode(),F); print(out[:20], len(out))
        out=await go(b"GET",b"/log/v1/events?limit=1000"); print(out[:20],len(out))
        out=await go(b"GET",b"/log/v1/stacks"); print(out[:20],len(out))
        for x in ("web",):
            out=await go(b"POST",b"/",f"Action=DescribeStackEvents&Version=2010-05-15&StackName={x}".encode(),F); print(out[:20],len(out))
        msg=sns_message("x")
        for p in paths(msg):
            for v in weird:
                await go(b"POST",b"/log/v1/ingest/sns",json.dumps(put(msg,p,v)).encode())
        print(len(bad))
        for b in bad[:60]: print(b)
