"""Interceptors of gRPC's two APIs, which mark each request."""

import grpc


class Stamp(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(self, continuation, client_call_details, request):
        request.model_spec.signature_name = "stamped"
        return continuation(client_call_details, request)


class AsyncStamp(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, client_call_details, request):
        request.model_spec.signature_name = "stamped"
        return await continuation(client_call_details, request)
