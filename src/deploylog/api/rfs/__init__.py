"""The RFS dialect: ListStackEvents of Huawei Cloud's Resource Formation Service."""
