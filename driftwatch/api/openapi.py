def document_refusals(result, generator, request, public):
    return result
